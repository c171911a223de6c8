"""Whatever fails in the wrapper, the job runs to its own end, and one line says what was lost.

Each call that the wrapper makes is made to fail in turn, around a real job.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import carbontrack
from tests.fixtures.tools import OF_THE_MACHINE
from tests.fixtures.wrap import (
    CARBONTRACK,
    PATIENCE_S,
    Wrapper,
    bound_by_modes,
    wait_until,
    warnings_in,
)

_PACKAGE = Path(carbontrack.__file__).parent
_FILES = (
    "launch",
    "accompany",
    "job_process",
    "recorded_job",
    "recorder_process",
    "own_process",
    "process_end",
    "signal_witness",
    "steps_file",
    "warning",
)
_MODULES = ("os", "_signal", "signal", "fcntl", "select", "json", "resource", "shutil", "time")
# Without these there is no job, or no end to tell of.
_INDISPENSABLE = {"os._exit", "os.posix_spawnp"}

# One process that forks a wrapper for each call: (call, when it begins to fail) a line. The
# recorder at the other end of the pipe writes down what it is told, no more.
_FORKS = """
import errno, importlib, json, os, sys
import carbontrack.record.launch as launch
folder, job = sys.argv[1], sys.argv[2:]
sys.executable = f"{folder}/recorder"

def wrap(call, when):
    module, name = call.split(".")
    real = importlib.import_module(module)
    def fail(*_args, **_more):
        raise OSError(errno.EIO, "made to fail")
    if when == "late":
        spawn = os.posix_spawnp
        def then_fail(*arguments, **more):
            pid = spawn(*arguments, **more)
            setattr(real, name, fail)
            return pid
        os.posix_spawnp = then_fail
    else:
        setattr(real, name, fail)
    launch.run(job, {"db": "sqlite:////nowhere"})

for line in sys.stdin:
    call, when = line.split()
    place = f"{folder}/{call}-{when}"
    os.mkdir(place)
    os.environ["RECORD"] = f"{place}/record"
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(f"{place}/stderr", os.O_WRONLY | os.O_CREAT), 2)
        try:
            wrap(call, when)
        finally:
            os._exit(99)
    print(call, when, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
# Not `exec`: what it reads from stays open until the record is written.
_RECORDER = '#!/bin/sh\nhead -n 2 > "$RECORD"\nexit $?\n'


def calls() -> list[str]:
    """Every function of these modules that the wrapper's files call."""
    found: set[str] = set()
    for file in _FILES:
        for node in ast.walk(ast.parse((_PACKAGE / "record" / f"{file}.py").read_text())):
            if isinstance(node, ast.Call) and isinstance(function := node.func, ast.Attribute):
                owner = function.value
                if isinstance(owner, ast.Name) and owner.id in _MODULES:
                    found.add(f"{owner.id}.{function.attr}")
    return sorted(found - _INDISPENSABLE)


def broken(folder: Path, job: str) -> list[tuple[str, int, str, list[Any]]]:
    """(call and when, exit code, stderr, what the recorder was told) for each call."""
    recorder = folder / "recorder"
    recorder.write_text(_RECORDER)
    recorder.chmod(0o755)
    asked = "".join(f"{call} {when}\n" for call in calls() for when in ("early", "late"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _FORKS, str(folder), "sh", "-c", job],
        input=asked,
        capture_output=True,
        text=True,
        env=Wrapper(folder).env,
        timeout=PATIENCE_S,
        check=True,
    )
    found = []
    for line in done.stdout.splitlines():
        call, when, code = line.split()
        place = folder / f"{call}-{when}"
        record = place / "record"
        told = record.read_text().splitlines() if record.exists() else []
        said = (place / "stderr").read_text()
        found.append((f"{call} {when}", int(code), said, [json.loads(line) for line in told]))
    assert len(found) == 2 * len(calls())
    return found


def test_every_call_that_fails_leaves_the_job_alone(tmp_path: Path) -> None:
    assert len(calls()) > 30
    for call, code, said, told in broken(tmp_path, "echo on >&2; exit 7"):
        assert code == 7, (call, said)
        assert "on\n" in said, call
        assert "Traceback" not in said, call
        recorded = len(told) == 2 and told[1]["exit_code"] == 7
        # Without write() there is no way to say anything.
        assert recorded or "carbontrack: " in said or call.startswith("os.write "), (call, said)


def test_a_job_that_a_signal_killed_looks_so_whatever_fails(tmp_path: Path) -> None:
    for call, code, said, _ in broken(tmp_path, "kill -TERM $$"):
        assert code in (-15, 143), (call, said)
        assert "Traceback" not in said, call


def runs_of(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(ledger)) as connection, suppress(sqlite3.OperationalError):
        ((count,),) = connection.execute("select count(*) from recordings where exit_code = 7")
        return int(count)
    return 0


ABSURD: list[dict[str, str]] = [
    {
        "XDG_RUNTIME_DIR": "/run/user/123456",
        "TMPDIR": "relative",
        "HOME": "/nonexistent",
        "LOGNAME": "x" * 100_000,
        "COLUMNS": "many",
        "LC_ALL": "xx_XX.latin-77",
        "CARBONTRACK_STEPS": "/dev/zero",
        "CARBONTRACK_RUN_ID": "",
        "CUDA_VISIBLE_DEVICES": "\udcff,🎉",
        "PYTHONPATH": "/dev/null:\udcff",
        "PYTHONWARNINGS": "error",
        "GIT_DIR": "/dev/null",
    },
    {
        "XDG_RUNTIME_DIR": "\udcff",
        "XDG_CONFIG_HOME": "/dev/null",
        "XDG_DATA_HOME": "relative",
        "CARBONTRACK_ZONE": "\udcff",
        "CARBONTRACK_PUE": "-1",
        "USER": "\udcff",
    },
]


@pytest.mark.parametrize("absurd", ABSURD, ids=["one", "two"])
def test_an_absurd_environment_costs_neither_job_nor_record(
    wrapper: Wrapper, absurd: dict[str, str]
) -> None:
    done = wrapper.run("sh", "-c", "exit 7", env={**wrapper.env, **absurd})
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    assert runs_of(wrapper.ledger) == 1


def test_a_job_without_any_environment_is_recorded(wrapper: Wrapper) -> None:
    argv = wrapper.argv("/bin/sh", "-c", "exit 7")
    options = ["--db", str(wrapper.ledger)]
    argv[argv.index("--quiet") : argv.index("--quiet")] = options
    done = subprocess.run(
        argv, env={}, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, warnings_in(done.stderr)) == (7, [])
    wait_until(lambda: runs_of(wrapper.ledger) == 1)


def run_in_a_removed_folder(wrapper: Wrapper, argv: list[str]) -> subprocess.CompletedProcess[str]:
    gone = wrapper.folder / "gone"
    script = f"mkdir {gone}; cd {gone}; rmdir {gone}; {subprocess.list2cmdline(argv)}"
    return subprocess.run(
        ["bash", "-c", script],
        env=wrapper.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_working_folder_that_is_gone_is_unknown(wrapper: Wrapper) -> None:
    done = run_in_a_removed_folder(wrapper, wrapper.argv("sh", "-c", "sleep 0.5; exit 7"))
    assert done.returncode == 7
    assert "carbontrack" not in done.stderr
    run = wrapper.json("show")
    assert (run["exit_code"], run["cwd"], run["git_commit"]) == (7, "", None)


def test_a_log_below_a_working_folder_that_is_gone_costs_the_steps_alone(wrapper: Wrapper) -> None:
    argv = wrapper.argv("sh", "-c", "sleep 0.5; exit 7")
    options = ["--log", "x.log", "--steps-from-log", "nanogpt"]
    argv[argv.index("--quiet") : argv.index("--quiet")] = options
    done = run_in_a_removed_folder(wrapper, argv)
    assert done.returncode == 7
    said = (
        "carbontrack: training steps will not be recorded: --log x.log: the working directory was"
    )
    assert done.stderr.startswith(said)
    assert done.stderr.count("carbontrack: ") == 1
    assert wrapper.json("show")["exit_code"] == 7


@pytest.mark.parametrize("limit", [6, 8, 10])
def test_few_descriptors_cost_the_record_at_most(wrapper: Wrapper, limit: int) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    done = wrapper.run("sh", "-c", "sleep 0.2; exit 7", preexec_fn=few)
    assert done.returncode == 7, done.stderr
    assert runs_of(wrapper.ledger) or "carbontrack: " in done.stderr


def test_more_descriptors_than_select_takes(wrapper: Wrapper) -> None:
    """A parent may leave a thousand open; select() refuses those above 1023."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"{OF_THE_MACHINE}: it allows too few descriptors")

    def many() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
        for descriptor in range(3, 1100):
            os.dup2(0, descriptor)

    argv = wrapper.argv(
        "sh", "-c", "trap 'exit 9' USR1; kill -USR1 $PPID; while :; do sleep 0.1; done"
    )
    done = subprocess.run(
        argv,
        env=wrapper.env,
        preexec_fn=many,
        close_fds=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (9, "")


def unrecorded(
    folder: Path, *command: str, module: str = "typer", **environ: str
) -> tuple[int, str, list[str]]:
    """How a run ends of which nothing but the job can work, for a module is damaged: its exit code,
    its output, and what it says after that it is not recorded.
    """
    code = (
        "import sys\n"
        "class Damaged:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise RuntimeError('broken')\n"
        "sys.meta_path.insert(0, Damaged()); from carbontrack.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "run", "--live", "--", *command],
        env=Wrapper(folder).env | environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    first, *rest = done.stderr.splitlines()
    assert first == "carbontrack: this run is not recorded: RuntimeError: broken."
    return done.returncode, done.stdout, rest


@pytest.mark.parametrize(
    "module",
    [
        "typer",  # as where a dependency is broken: the command line cannot even be read
        "carbontrack.search_path",
        "carbontrack.cli",
        "carbontrack.cli.recording",
        "carbontrack.record.launch",
        "carbontrack.record.job_process",
        "carbontrack.record.ship_to",
    ],
)
def test_an_error_of_ours_before_the_job_does_not_keep_it_from_running(
    tmp_path: Path, module: str
) -> None:
    assert unrecorded(tmp_path, "sh", "-c", "exit 7", module=module) == (7, "", [])


def test_an_unrecorded_job_does_not_find_our_token(tmp_path: Path) -> None:
    secrets = {"CARBONTRACK_SHIP_TOKEN": "secret", "CARBONTRACK_SHIP_TOKEN_FILE": "/secret"}
    code, out, _ = unrecorded(tmp_path, "env", **secrets, JOBS_OWN="1")
    assert code == 0
    assert "JOBS_OWN=1" in out.splitlines()
    assert "secret" not in out


def test_an_unrecorded_job_that_cannot_start_ends_as_a_recorded_one(
    tmp_path: Path, wrapper: Wrapper
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("exit 7\n")
    for command, code in (("no-such-command", 127), (str(plain), 126), (str(tmp_path), 126)):
        done = wrapper.run(command)
        assert unrecorded(tmp_path, command) == (code, "", done.stderr.splitlines())
        assert done.returncode == code
    plain.chmod(0o700)
    assert unrecorded(tmp_path, str(plain)) == (wrapper.run(str(plain)).returncode, "", [])


def ignored(status: str) -> int:
    """The signals that a line of /proc says are ignored, without 32 and 33: those are the C
    library's, which ignores them for what it spawns or does not.
    """
    return int(status.split()[1], 16) & ((1 << 31) - 1)


def test_a_job_in_our_place_has_the_signals_of_one_below_us(
    tmp_path: Path, wrapper: Wrapper
) -> None:
    job = ("grep", "SigIgn", "/proc/self/status")
    recorded_already = wrapper.run(*wrapper.argv(*job))
    of_jobs = wrapper.run(*job).stdout, recorded_already.stdout, unrecorded(tmp_path, *job)[1]
    assert len({*map(ignored, of_jobs)}) == 1


def test_the_jobs_own_modules_are_never_ours(wrapper: Wrapper) -> None:
    """A repository that names itself in PYTHONPATH, and is where the job starts."""
    theirs = wrapper.folder / "theirs"
    (theirs / "dashboards").mkdir(parents=True)
    for name in ("statistics", "selectors", "typer", "sqlite3", "sitecustomize"):
        (theirs / f"{name}.py").write_text(
            "import sys\n"
            f"with open({str(theirs / 'imported')!r}, 'a') as file:\n"
            f"    print({name!r}, *sys.orig_argv, file=file)\n"
        )
    (theirs / "dashboards" / "live.py").write_text("raise SystemExit('theirs')\n")
    (theirs / "dashboards" / "__init__.py").touch()
    script = wrapper.folder / "carbon"
    script.write_text("from carbontrack.__main__ import main; main()\n")
    job = [sys.executable, "-c", "import statistics; input(); print(statistics)"]
    argv = [str(script), "run", "--live", "--meter", "sim:a100x1", "--", *job]
    process = subprocess.Popen(
        [sys.executable, "-P", *argv],
        env={**wrapper.env, "PYTHONPATH": str(theirs)},
        cwd=theirs,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "watch this run at" in process.stderr.readline()
    out, err = process.communicate("\n", timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert str(theirs) in out  # the job has its own
    imported = (theirs / "imported").read_text().splitlines()
    # Python itself imports the wrapper's sitecustomize before any code of ours can say no.
    ours = [line for line in imported if str(script) in line or "-m" in line.split()]
    assert [line.split()[0] for line in ours] == ["sitecustomize"]


def unreachable(folder: Path, kind: str) -> Path:
    """A folder in which nothing can be looked up, by root neither."""
    if kind == "too long":
        return folder.joinpath(*["x" * 200] * 25)
    path = folder / "home"
    if kind == "loop":
        path.symlink_to(path)
    else:
        path.touch()
    return path


UNREACHABLE = ["too long", "loop", "file"]


@pytest.mark.parametrize("kind", UNREACHABLE)
def test_a_home_that_cannot_be_entered_costs_the_record_and_not_the_job(
    wrapper: Wrapper, kind: str
) -> None:
    """As that of root in a container whose job is another user's."""
    env = {**wrapper.env, "HOME": str(unreachable(wrapper.folder, kind))}
    for name in ("CARBONTRACK_DB", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        del env[name]
    done = wrapper.run("sh", "-c", "exit 7", env=env)
    assert done.returncode == 7, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("carbontrack: measurements are lost: /")


def test_a_home_that_is_closed_to_us_costs_the_record_and_not_the_job(wrapper: Wrapper) -> None:
    home = wrapper.folder / "home"
    home.mkdir()
    as_we_are = bound_by_modes()
    if as_we_are:
        os.chown(home, 65534, 65534)
    home.chmod(0o700 if as_we_are else 0)
    env = {**wrapper.env, "HOME": str(home)}
    for name in ("CARBONTRACK_DB", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        del env[name]
    try:
        done = subprocess.run(
            [*as_we_are, *wrapper.argv("sh", "-c", "exit 7")],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        home.chmod(0o700)
    assert done.returncode == 7, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("carbontrack: measurements are lost: /")
    assert line.endswith(": Permission denied.")


@pytest.mark.parametrize("kind", UNREACHABLE)
def test_a_ledger_of_the_environment_that_cannot_be_reached_is_no_jobs_matter(
    wrapper: Wrapper, kind: str
) -> None:
    db = str(unreachable(wrapper.folder, kind) / "ledger.db")
    done = wrapper.run("sh", "-c", "exit 7", env={**wrapper.env, "CARBONTRACK_DB": db})
    assert done.returncode == 7, done.stderr
    (line,) = done.stderr.splitlines()
    assert "carbontrack: measurements are " in line
    started = wrapper.folder / "started"
    if kind != "file":  # a path below a file is not there yet, and no folder
        refused = wrapper.run("touch", str(started), options=("--db", db))
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "cannot be reached: " in refused.stderr
        assert not started.exists()


def test_a_job_whose_ledger_has_no_place_runs_alone(wrapper: Wrapper) -> None:
    env = {**wrapper.env, "CARBONTRACK_DB": "~nobody-of-this-name/ledger.db"}
    why = (
        "carbontrack: nothing is recorded: The ledger ~nobody-of-this-name/ledger.db cannot be "
        "reached: there is no home folder ~nobody-of-this-name. Name another one with --db or "
        "CARBONTRACK_DB.\n"
    )
    done = wrapper.run("sh", "-c", "grep SigIgn /proc/self/status; exit 7", env=env)
    assert (done.returncode, done.stderr) == (7, why)
    bare = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True)
    assert ignored(done.stdout) == ignored(bare.stdout)
    argv = [*CARBONTRACK, "attach", str(os.getpid())]
    attached = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (attached.returncode, attached.stderr) == (2, why)


def test_an_address_of_a_server_that_is_none_is_said_and_the_run_is_kept(wrapper: Wrapper) -> None:
    address = "postgresql://ada:s3cret@127.0.0.1:notaport/energy"
    done = wrapper.run("sh", "-c", "exit 7", env={**wrapper.env, "CARBONTRACK_DB": address})
    assert done.returncode == 7
    (line,) = warnings_in(done.stderr)
    assert line.startswith("carbontrack: Not a ledger's address: postgresql")
    assert "s3cret" not in done.stderr
    (kept,) = wrapper.folder.glob("data/carbontrack/servers/*/*.db")
    assert f"recorded in {kept}" in line
    assert wrapper.ask("db", "merge", str(kept)).returncode == 0
    assert runs_of(wrapper.ledger) == 1
