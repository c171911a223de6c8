"""The default name of a run: the script, module or program that its command really runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from carbontrack.redact import HIDDEN

_MAX_CHARS = 100
_ASSIGNMENT = re.compile(r"^\w+=", re.ASCII)
_SCRIPT = re.compile(r"\.(py|pyc|ipynb|sh|bash|zsh|R|jl|pl|rb|lua|js|ts|exe|bin)$")
_PYTHON = re.compile(r"^(python|pypy)[\d.]*$")
_SHELL = re.compile(r"^(ba|z|da|k|fi|c|tc|)sh$")
_PUNCTUATION = ";&|(){}<>"  # of a shell
_ENDS_COMMAND = {";", "&&", "||", "|", "&", "\n", "then", "do", "{", "("}
# Builtins and tools that prepare a job in its script: the next command is the one.
_PREPARES = {
    ":", ".", "[", "alias", "cd", "conda", "cp", "declare", "echo", "eval", "exit", "export",
    "false", "for", "if", "kill", "ln", "local", "mamba", "micromamba", "mkdir", "mkfifo",
    "module", "mv", "nvidia-smi", "popd", "printf", "pushd", "read", "return", "rm", "set",
    "setenv", "shopt", "source", "test", "touch", "trap", "true", "ulimit", "umask", "unset",
    "wait", "while",
}  # fmt: skip


@dataclass(frozen=True)
class _Launcher:
    """How a program that starts another finds it among its own words.

    After one of `verbs`, options come, then `operands` of its own, then the command. Of the
    options, `valued` take the next word as their value, or, where that is None, all but `flags` do.
    """

    verbs: Sequence[str] = ()
    operands: int = 0
    valued: frozenset[str] | None = frozenset()
    flags: frozenset[str] = frozenset()
    starts_python: bool = False  # -m names a module, and a script needs no interpreter


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MPI = _Launcher(
    valued=None,
    flags=_set(
        "--allow-run-as-root --oversubscribe --display-map --report-bindings --tag-output -q -v "
        "--quiet --verbose -l -s --bind-to-core --merge-stderr-to-stdout -nolocal -prepend-rank"
    ),
)
_TORCHRUN = _Launcher(
    valued=None,
    flags=_set("--standalone --no-python --no_python --run-path --run_path --use-env --use_env"),
    starts_python=True,
)
_ACCELERATE = _Launcher(
    verbs=("launch",),
    valued=None,
    flags=_set(
        "-q --quiet --cpu --multi_gpu --multi-gpu --tpu --ipex --use_deepspeed --use-deepspeed "
        "--use_fsdp --use-fsdp --use_megatron_lm --use-megatron-lm --use_xpu --debug --no_python "
        "--no-python --tpu_use_cluster --tpu_use_sudo --main_training_function "
        "--enable_cpu_affinity --use_tp"
    ),
    starts_python=True,
)
_DEEPSPEED = _Launcher(
    valued=None,
    flags=_set(
        "--no_python --no_local_rank --save_pid --force_multi --no_ssh --no_ssh_check "
        "--enable_each_rank_log --bind_cores_to_rank --elastic_training"
    ),
    starts_python=True,
)
_SRUN = _Launcher(
    valued=None,
    flags=_set(
        "-l --label -u --unbuffered -v --verbose -Q --quiet -K --kill-on-bad-exit -O --overcommit "
        "-s --oversubscribe --exclusive --overlap --pty -H --hold -I --immediate -X "
        "--disable-status -E --preserve-env --contiguous --spread-job --use-min-nodes "
        "--mpi-combine -b --batch --requeue --no-requeue"
    ),
)
_CONTAINER = _Launcher(
    verbs=("run", "container run"),
    operands=1,  # the image
    valued=None,
    flags=_set(
        "--rm -d -i -t -it -ti -dit -itd --detach --interactive --tty --init --privileged "
        "--read-only -P --publish-all --no-healthcheck --oom-kill-disable --sig-proxy -q --quiet"
    ),
)
_LAUNCHERS: dict[str, _Launcher] = {
    "docker": _CONTAINER,
    "podman": _CONTAINER,
    "nerdctl": _CONTAINER,
    "ray": _Launcher(
        verbs=("job submit",),
        valued=None,
        flags=_set("--no-wait -v --verbose --verify --follow-client-logs"),
    ),
    "xargs": _Launcher(
        valued=_set(
            "-a -d -E -I -L -n -P -s --arg-file --delimiter --max-lines --max-args --max-procs "
            "--max-chars --process-slot-var"
        )
    ),
    "parallel": _Launcher(
        valued=_set(
            "-j -P --jobs --max-procs -a --arg-file --joblog --results -S --sshlogin --delay "
            "--timeout -N -n --max-args -I --colsep -C --retries --wd --workdir --tmpdir"
        )
    ),
    # What fetches secrets for a command.
    "op": _Launcher(verbs=("run",), valued=_set("--env-file --account --config --session")),
    "doppler": _Launcher(
        verbs=("run",), valued=_set("-p --project -c --config -t --token --mount --scope")
    ),
    "infisical": _Launcher(verbs=("run",), valued=_set("--env --path --projectId --token --tags")),
    "aws-vault": _Launcher(
        verbs=("exec",), operands=1, valued=_set("-d --duration --region -t --mfa-token --prompt")
    ),
    "chamber": _Launcher(verbs=("exec",), operands=1),
    "dotenv": _Launcher(verbs=("run",), valued=_set("-f --file")),
    "direnv": _Launcher(verbs=("exec",), operands=1),
    "envdir": _Launcher(operands=1),
    "env": _Launcher(valued=_set("-u --unset -C --chdir -S --split-string")),
    "nice": _Launcher(valued=_set("-n --adjustment")),
    "ionice": _Launcher(valued=_set("-c --class -n --classdata")),
    "nohup": _Launcher(),
    "setsid": _Launcher(),
    "exec": _Launcher(valued=_set("-a")),
    "command": _Launcher(),
    "time": _Launcher(valued=_set("-f --format -o --output")),
    "timeout": _Launcher(operands=1, valued=_set("-k --kill-after -s --signal")),
    "stdbuf": _Launcher(valued=_set("-i -o -e --input --output --error")),
    "unbuffer": _Launcher(),
    "taskset": _Launcher(operands=1, valued=frozenset()),
    "numactl": _Launcher(valued=_set("-C -N -m -p -i --physcpubind --cpunodebind --membind")),
    "chrt": _Launcher(operands=1),
    "flock": _Launcher(operands=1, valued=_set("-w -E --timeout --conflict-exit-code")),
    "tini": _Launcher(valued=_set("-p -e")),
    "dumb-init": _Launcher(valued=_set("-r --rewrite")),
    "catchsegv": _Launcher(),
    "systemd-run": _Launcher(
        valued=_set("-p -u -E -M -H --property --unit --setenv --slice --uid --gid --nice")
    ),
    "compute-sanitizer": _Launcher(valued=_set("--tool --log-file --save --target-processes")),
    "valgrind": _Launcher(),
    "gdb": _Launcher(valued=_set("-ex -x --command")),
    "sudo": _Launcher(valued=_set("-u -g -h -p -C -D --user --group --host --prompt --chdir")),
    "doas": _Launcher(valued=_set("-u -C")),
    "xvfb-run": _Launcher(valued=_set("-e -n -s --server-args --server-num --error-file")),
    "strace": _Launcher(valued=_set("-e -o -p -s -u -E -P")),
    "nsys": _Launcher(verbs=("profile", "launch"), valued=_set("-o -t -w -s -c -d -y -e -x -f")),
    "ncu": _Launcher(valued=_set("-o -k -c -s --set --section --metrics --launch-count")),
    "perf": _Launcher(verbs=("stat", "record"), valued=_set("-e -o -F -r -I --event --output")),
    "rocprof": _Launcher(valued=_set("-i -o -d")),
    "srun": _SRUN,
    "mpirun": _MPI,
    "mpiexec": _MPI,
    "orterun": _MPI,
    "prun": _MPI,
    "horovodrun": _Launcher(valued=None, flags=_set("--verbose --gloo --mpi --disable-cache")),
    "jsrun": _Launcher(valued=None),
    "aprun": _Launcher(valued=None),
    "torchrun": _TORCHRUN,
    "torchx": _TORCHRUN,
    "accelerate": _ACCELERATE,
    "accelerate-launch": _Launcher(valued=None, flags=_ACCELERATE.flags, starts_python=True),
    "deepspeed": _DEEPSPEED,
    "ds": _DEEPSPEED,
    "uv": _Launcher(
        verbs=("run",),
        valued=_set(
            "-p --python --with --with-editable --with-requirements --extra --group --only-group "
            "--no-group --env-file --project --directory --package --index --default-index "
            "--index-url -i --extra-index-url --find-links -f --config-file --cache-dir -C "
            "--refresh-package --reinstall-package --upgrade-package -P"
        ),
        starts_python=True,
    ),
    "uvx": _Launcher(valued=_set("-p --python --with --from --index")),
    "pipx": _Launcher(verbs=("run",), valued=_set("--spec --python")),
    "poetry": _Launcher(verbs=("run",)),
    "pipenv": _Launcher(verbs=("run",)),
    "pdm": _Launcher(verbs=("run",)),
    "rye": _Launcher(verbs=("run",)),
    "hatch": _Launcher(verbs=("run",)),
    "pixi": _Launcher(verbs=("run",), valued=_set("-e --environment --manifest-path")),
    "conda": _Launcher(verbs=("run",), valued=_set("-n --name -p --prefix --cwd")),
    "mamba": _Launcher(verbs=("run",), valued=_set("-n --name -p --prefix --cwd")),
    "micromamba": _Launcher(verbs=("run",), valued=_set("-n --name -p --prefix --cwd")),
    "apptainer": _Launcher(verbs=("exec",), operands=1, valued=_set("-B --bind --env -H --pwd")),
    "singularity": _Launcher(verbs=("exec",), operands=1, valued=_set("-B --bind --env -H --pwd")),
    "coverage": _Launcher(verbs=("run",), valued=_set("--source --rcfile"), starts_python=True),
    "py-spy": _Launcher(verbs=("record",), valued=_set("-o -r -d -f")),
    "wandb": _Launcher(verbs=("launch",), valued=_set("-u -p -e")),
}
_MODULES: dict[str, _Launcher] = {
    "torch.distributed.run": _TORCHRUN,
    "torch.distributed.launch": _TORCHRUN,
    "accelerate.commands.launch": _Launcher(
        valued=None, flags=_ACCELERATE.flags, starts_python=True
    ),
    "accelerate.commands.accelerate_cli": _ACCELERATE,
    "deepspeed.launcher.runner": _DEEPSPEED,
    "cProfile": _Launcher(valued=_set("-o -s"), starts_python=True),
    "trace": _Launcher(starts_python=True),
    "pdb": _Launcher(valued=_set("-c"), starts_python=True),
    "debugpy": _Launcher(valued=_set("--listen --connect"), starts_python=True),
    "coverage": _Launcher(verbs=("run",), valued=_set("--source"), starts_python=True),
    "scalene": _Launcher(starts_python=True),
    "viztracer": _Launcher(valued=_set("-o"), starts_python=True),
    "memory_profiler": _Launcher(starts_python=True),
    "kernprof": _Launcher(starts_python=True),
    "uv": _LAUNCHERS["uv"],
}
_PYTHON_VALUED = _set("-W -X --check-hash-based-pycs")
_SHELL_VALUED = _set("-o -O +o +O --rcfile --init-file")


def default_name(command: Sequence[str]) -> str:
    """The script's, module's or program's name, through the launchers before it; without what
    ends a script's name, as `.py`. `command` has its secrets redacted.
    """
    found = (_name_of(list(command), depth=0), _basename(command[0]) if command else "")
    name = next((name for name in found if name and HIDDEN not in name), "")
    printable = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(printable.split())[:_MAX_CHARS] or "run"


def _name_of(words: list[str], depth: int) -> str | None:
    """None if no command is in these words."""
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words or depth > 20:
        return None
    program, rest = _basename(words[0]), words[1:]
    if _PYTHON.match(program):
        return _of_python(program, rest, depth)
    if _SHELL.match(program):
        return _of_shell(program, rest, depth)
    if (launcher := _LAUNCHERS.get(program)) is not None:
        return _of_launcher(launcher, rest, depth) or program
    return _stem(words[0])


def _of_launcher(launcher: _Launcher, words: list[str], depth: int) -> str | None:
    if launcher.verbs:
        found = (verb.split() for verb in launcher.verbs)
        verb = next((verb for verb in found if words[: len(verb)] == verb), None)
        if verb is None:
            return None
        words = words[len(verb) :]

    def takes_value(option: str) -> bool:
        if launcher.valued is None:
            return option not in launcher.flags
        return option in launcher.valued

    modules = ("-m", "--module") if launcher.starts_python else ()
    option, words = _skip_options(words, takes_value, stop_at=modules)
    if option:
        return _of_module(words, depth)
    words = words[launcher.operands :]
    words = words[1:] if words[:1] == ["--"] else words
    if launcher.starts_python and words and _SCRIPT.search(words[0]):
        return _stem(words[0])
    return _name_of(words, depth + 1)


def _of_python(program: str, words: list[str], depth: int) -> str | None:
    option, words = _skip_options(words, _PYTHON_VALUED.__contains__, stop_at=("-m", "-c"))
    if option == "-m":
        return _of_module(words, depth)
    if option == "-c" or not words or words[0] == "-":
        return program
    return _stem(words[0])


def _of_module(words: list[str], depth: int) -> str | None:
    if not words:
        return None
    if (launcher := _MODULES.get(words[0])) is not None:
        return _of_launcher(launcher, words[1:], depth + 1) or words[0]
    return words[0].removesuffix(".__main__")


def _of_shell(program: str, words: list[str], depth: int) -> str | None:
    option, words = _skip_options(words, _SHELL_VALUED.__contains__, stop_at=("-c",), glued="oO")
    if not words:
        return program
    if option == "-c":
        words = words[1:] if words[0] == "--" and len(words) > 1 else words
        return _of_script(words[0], words[2:], depth) or program
    return _stem(words[0])


def _of_script(script: str, arguments: list[str], depth: int) -> str | None:
    """The first command of a line for the shell that does not only prepare another."""
    lexer = shlex.shlex(script.replace("\n", " ; "), posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an open quote: not a script that we could read
        return None
    command: list[str] = []
    is_target = False  # of a redirection
    for word in [*words, ";"]:
        is_punctuation = set(word) <= set(_PUNCTUATION)
        if is_punctuation and set(word) & set("<>") and not word.endswith("("):
            if command and command[-1].isdigit():  # 2>
                command.pop()
            is_target = True
            continue
        if word not in _ENDS_COMMAND and not is_punctuation:
            command += [] if is_target else [word]
            is_target = False
            continue
        is_target = False
        while command and _ASSIGNMENT.match(command[0]):
            command = command[1:]
        if command == ["exec"]:  # of redirections alone: exec 3>&1
            command = []
        if command[:1] == ["$@"]:
            return _name_of(arguments, depth + 1)
        if (
            command
            and command != ["exec"]
            and command[0] not in _PREPARES
            and not command[0].startswith("$")
        ):
            return _name_of(command, depth + 1)
        if command[:2] in (["conda", "run"], ["mamba", "run"], ["micromamba", "run"]):
            return _name_of(command, depth + 1)
        command = []
    return None


def _skip_options(
    words: list[str], takes_value: Callable[[str], bool], *, stop_at: Sequence[str], glued: str = ""
) -> tuple[str | None, list[str]]:
    """(the option of `stop_at` that was met, the words after it), else (None, the words after all
    options). A short one may hang behind others: -lc, -um, and one of `glued` then takes the next
    word, too: -euo pipefail.
    """
    words = list(words)
    while words and words[0].startswith(("-", "+")) and words[0] not in ("-", "+"):
        option = words.pop(0)
        if option == "--":
            break
        short = not option.startswith("--")
        for stop in stop_at:
            hangs = len(stop) == 2 and short and re.fullmatch(rf"-[A-Za-z]*{stop[1]}", option)
            if option == stop or hangs:
                return stop, words
        bundle = short and len(option) > 2 and option[1:].isalpha() and option[-1] in glued
        own_value = short and len(option) > 2 and not _is_long(option)
        if bundle or ("=" not in option and not own_value and takes_value(option)):
            words = words[1:]
    return None, words


def _is_long(option: str) -> bool:
    """Whether a single dash begins a long option, as mpirun's: -host, -np."""
    return option.lstrip("-").isalpha() and len(option) > 2


def _basename(word: str) -> str:
    return PurePosixPath(word).name or word


def _stem(word: str) -> str:
    path = PurePosixPath(word)
    if path.name == "__main__.py" and path.parent.name:
        return path.parent.name
    return _SCRIPT.sub("", path.name) or path.name or word
