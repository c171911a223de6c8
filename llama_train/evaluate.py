"""Benchmarks: which tasks are asked, and the scores that a model gets, with chance and error.

The tasks and the metrics are those of EleutherAI's lm-eval; a task out of a file needs no network.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_train.errors import TrainError, nearest
from llama_train.questions import GRADE, WORTH
from llama_train.tokenizer import Tokenizer, tokenizer_beside
from llama_train.wording import counted

_SHOTS_SEED = 1234  # lm-eval's own
_LEAST_KNOWN = 0.9  # of the model's pieces; less is no padding

FROM_FILES = ("bigbench", "local", "humaneval")
"""What stands before the colon of a task that is read by path."""

_BY_PATH = ", ".join(f"{kind}:PATH" for kind in FROM_FILES)


@dataclass(frozen=True, slots=True)
class Score:
    """Of one task by one metric; its first is the one that the task is known by."""

    task: str
    metric: str
    score: float
    stderr: float | None
    """Standard error of the mean over the questions; None if the metric is no mean."""
    chance: float | None
    """What guessing would get; None if the answers are not chosen among some."""
    questions: int


def prepare_harness() -> None:
    """Import lm-eval, and let it say nothing. Raises TrainError where it is not installed."""
    try:
        import lm_eval.evaluator  # noqa: F401
    except ImportError as error:
        raise TrainError(
            f"evaluate needs the package {error.name}.",
            hint="pip install 'carbontrack[eval]'",
            exit_code=1,
        ) from error
    for name in ("lm_eval", "datasets", "huggingface_hub"):  # now that they have set their own
        logging.getLogger(name).setLevel(logging.CRITICAL)


def open_tasks(names: Sequence[str], *, shots: int | None, unsafe: bool) -> dict[str, Any]:
    """The tasks by name, ready to be asked: of lm-eval, `bigbench:DIR/NAME`, `local:FILE.jsonl`,
    `humaneval:FILE`.

    Raises TrainError for one that does not exist or cannot be read, for two of one name, and for
    one that runs what the model writes unless `unsafe`.
    """
    from lm_eval.api.task import ConfigurableTask

    from llama_train import questions

    read: Mapping[str, Callable[[Path], dict[str, Any]]] = {
        "bigbench": questions.bigbench,
        "local": questions.local,
        "humaneval": questions.humaneval,
    }
    opened: dict[str, Any] = {}
    by_path: set[str] = set()
    for name in names:
        kind, colon, path = name.partition(":")
        if colon and kind not in read:
            raise TrainError(f"Task {name}: {kind} is none of {', '.join(FROM_FILES)}.")
        if colon:
            fields = read[kind](Path(path))
            found = {fields["task"]: ConfigurableTask(config=fields)}
            by_path |= found.keys()
        else:
            found = _of_the_harness(name)
        if twice := opened.keys() & found.keys():
            raise TrainError(f"Two tasks are named {min(twice)}.", hint="Evaluate them apart.")
        opened |= found
    for name, task in opened.items():
        if task.config.unsafe_code and not unsafe:
            raise TrainError(
                f"Task {name} runs programs that the model writes.",
                hint="Add --unsafe, best in a container.",
            )
        if shots is not None:
            _show_solved(name, task, shots, splits_known=name in by_path)
    return opened


def _show_solved(name: str, task: Any, shots: int, *, splits_known: bool) -> None:
    """Let lm-eval show so many solved questions before each, always the same."""
    none = splits_known and task.config.fewshot_split is None
    solved = 0 if none else len(list(task.fewshot_docs() or ()))
    if shots and shots >= solved:
        raise TrainError(
            f"--shots is {shots}; task {name} has {counted(solved, 'question')} that can be shown "
            "solved."
        )
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=_SHOTS_SEED)


def ask(model: Any, tasks: Mapping[str, Any], *, limit: int | None) -> list[Score]:
    """Ask a model of lm-eval at most `limit` questions of each task."""
    from lm_eval.evaluator import evaluate

    answer = evaluate(
        lm=model,
        task_dict={"tasks": dict(tasks), "groups": {}},
        limit=limit,
        bootstrap_iters=1000,
        confirm_run_unsafe_code=True,
    )
    return [
        score
        for name, task in tasks.items()
        for score in _scores(name, task, answer["results"][name], answer["samples"][name])
    ]


def tokenizer_of(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer beside the weights. Raises TrainError if it is missing or another model's."""
    pieces = tokenizer_beside(folder, vocab_size)
    known, ids = pieces.vocab_size, {"bos_token_id": pieces.bos, "eos_token_id": pieces.eos}
    wrong = [] if _LEAST_KNOWN * vocab_size <= known else [f"{known} pieces"]
    wanted = {"vocab_size": vocab_size, **_declared(folder / "config.json", ids)}
    wrong += [f"{key} {ids[key]}" for key in ids if wanted.get(key, ids[key]) != ids[key]]
    if wrong:
        has = ", ".join(f"{key} {value}" for key, value in wanted.items())
        raise TrainError(
            f"{folder}: a checkpoint of another tokenizer: tokenizer.model has "
            f"{' and '.join(wrong)}, the model {has}.",
            hint="Put the tokenizer that it was trained with beside it.",
        )
    return pieces


def _declared(config: Path, keys: Iterable[str]) -> dict[str, int]:
    """What a Hugging Face configuration says of these, where it does."""
    if not config.is_file():
        return {}
    content = json.loads(config.read_text(encoding="utf-8"))
    return {key: content[key] for key in keys if isinstance(content.get(key), int)}


def _scores(
    name: str, task: Any, results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> Iterator[Score]:
    chance = _chance(task, (sample["doc"] for sample in samples))
    for key, value in results.items():
        metric, comma, which = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = results.get(f"{metric}_stderr,{which}")
        yield Score(
            task=name,
            metric=metric if which == "none" else f"{metric}:{which}",
            score=float(value),
            stderr=stderr if isinstance(stderr, float) and math.isfinite(stderr) else None,
            chance=chance if metric.startswith(("acc", GRADE)) else None,
            questions=len({sample["doc_id"] for sample in samples}),
        )


def _chance(task: Any, docs: Iterable[Any]) -> float | None:
    """The mean share of right answers among the choices, or what they are worth."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    shares = []
    for doc in docs:
        gold, choices = task.doc_to_target(doc), len(task.doc_to_choice(doc))
        right = len(gold if isinstance(gold, list) else [gold])
        shares.append(sum(doc.get(WORTH, [right])) / choices)
    return float(sum(shares) / len(shares))


def _of_the_harness(name: str) -> dict[str, Any]:
    """The tasks of lm-eval by that name, of a task, a group or a tag."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    folder = Path(lm_eval.tasks.__file__).parent
    if not any(name in file.read_text(encoding="utf-8") for file in folder.rglob("*.yaml")):
        known = [path.name for path in folder.iterdir() if path.is_dir()]
        raise TrainError(
            f"There is no task {name} in lm-eval{nearest(name, known)}",
            hint=f"By path there are {_BY_PATH}.",
        )
    # All 14,000 take lm-eval ten seconds to list; a task is most often in the folder of its name.
    managers = [lambda: TaskManager(include_defaults=False, include_path=str(folder / name))]
    for manager in [*managers * (folder / name).is_dir(), TaskManager]:
        known = manager()
        if name in known.all_tasks:
            return _loaded(name, known)
    raise TrainError(f"There is no task {name} in lm-eval.")


def _loaded(name: str, manager: Any) -> dict[str, Any]:
    """With its data, which lm-eval reads from Hugging Face's hub or its cache here."""
    try:
        tasks: dict[str, Any] = manager.load([name])["tasks"]
    except Exception as error:  # each data set has its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainError(
            f"The data set of task {name} is neither to be reached nor in Hugging Face's cache: "
            f"{reason}.",
            hint=f"Offline there are {_BY_PATH}.",
            exit_code=1,
        ) from error
    return tasks
