"""Questions out of files, as tasks of lm-eval: JSONL, BIG-bench's task.json, HumanEval's problems.

Nothing is downloaded. A line of JSONL is {"question": …, "choices": [several texts], "answer": the
right one or its number from 0 on}; without choices, {"question": …, "answer": …} is answered freely
and must match.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_train.documents import unicode_fault
from llama_train.errors import TrainError, nearest
from llama_train.programs import passes

Fields = dict[str, Any]
WORTH = "worth_of_choices"
"""In a question: what each of its choices is worth; 1 is right, 0 is wrong."""
GRADE = "multiple_choice_grade"
"""BIG-bench's metric of choices that are partly right; where they are right or not it is `acc`."""

# Where HumanEval's functions end (Chen et al. 2021, section 2.2).
_FUNCTION_ENDS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]
_FUNCTION_TOKENS = 512

# BIG-bench's answer where the task says neither how it looks nor where it ends.
_ANSWER = r"[^\.\?\!\;\n]+"

# Of a task whose other questions can be shown solved before one; lm-eval leaves out the one itself.
_SHOWN = {"fewshot_split": "test"}


def local(path: Path) -> Fields:
    """A task out of JSONL. Raises TrainError for a line that is no question."""
    docs, generated = [], []
    for place, row in _rows(path):
        question, choices, answer = row.get("question"), row.get("choices"), row.get("answer")
        text = _text(question, "'question'", place)
        if choices is None:
            targets = [_text(answer, "'answer'", place)]
            generated.append({"prompt": f"Question: {text}\nAnswer:", "targets": targets})
            continue
        choices = _choices(choices, place)
        if isinstance(answer, str) and answer in choices:
            answer = choices.index(answer)
        if type(answer) is not int or not 0 <= answer < len(choices):
            raise TrainError(
                f"{place}: 'answer' is neither one of the {len(choices)} choices nor its number "
                "from 0 on."
            )
        worth = [float(number == answer) for number in range(len(choices))]
        prompt = f"Question: {text}\nAnswer:"
        docs.append({"prompt": prompt, "choices": choices, "gold": [answer], WORTH: worth})
    if docs and generated:
        raise TrainError(f"{path}: some questions have choices and some none: make two files.")
    if docs:
        return _multiple_choice(_name(path), docs, delimiter=" ")
    return _generated(_name(path), generated, until=["\n"])


def bigbench(folder: Path) -> Fields:
    """A task out of BIG-bench's JSON: DIR/NAME, or DIR/NAME/SUBTASK, with a task.json in it.

    Of multiple choice the target score of the likeliest answer counts, as in BIG-bench's
    multiple_choice_grade. Raises TrainError for a folder without the file, or another content.
    """
    path = folder / "task.json"
    if not path.is_file():
        raise TrainError(f"{folder} holds no task.json, BIG-bench's task{_beside(folder)}")
    task = _object(path)
    examples = task.get("examples")
    if not isinstance(examples, list) or not examples:
        raise TrainError(f"{path} has no list of 'examples'.")
    ask = _BigBenchPrompt(task, path)
    # Some have choices as well, for models that do not write.
    is_free = task.get("preferred_score") == "exact_str_match" and all(
        isinstance(one, dict) and one.get("target") is not None for one in examples
    )
    docs, generated = [], []
    for number, example in enumerate(examples, 1):
        place = f"{path}, example {number}"
        if not isinstance(example, dict):
            raise TrainError(f"{place} is not a JSON object.")
        scores = None if is_free else example.get("target_scores")
        if scores is None:
            targets = example.get("target")
            targets = targets if isinstance(targets, list) else [targets]
            targets = [_text(target, "'target'", place) for target in targets]
            generated.append({"prompt": ask(example, [], place), "targets": targets})
            continue
        if not isinstance(scores, dict) or not all(
            isinstance(score, int | float) for score in scores.values()
        ):
            raise TrainError(f"{place}: 'target_scores' is not an object of numbers.")
        choices, worth = _choices(list(scores), place), list(map(float, scores.values()))
        gold = [i for i, score in enumerate(worth) if score == max(worth)]
        prompt = ask(example, choices, place)
        docs.append({"prompt": prompt, "choices": choices, "gold": gold, WORTH: worth})
    if docs and generated:
        raise TrainError(f"{path}: some examples have target_scores and some none.")
    name = folder.resolve().name
    if docs:
        fields = _multiple_choice(name, docs, delimiter="")
    else:
        until = [ask.stop] if ask.stop else ["\n"]
        fields = _generated(name, generated, until=until, pattern=ask.answer_pattern)
    return {**fields, "description": ask.before, "fewshot_delimiter": ask.between}


def humaneval(path: Path) -> Fields:
    """HumanEval's problems (.jsonl or .jsonl.gz): pass@1 of one greedy answer.

    The answers are run as programs: ask before. Raises TrainError for another content.
    """
    docs = []
    for place, row in _rows(path):
        keys = ("prompt", "test", "entry_point")
        docs.append({key: _text(row.get(key), f"'{key}'", place) for key in keys})

    def passed(doc: Mapping[str, str], answers: Sequence[str]) -> dict[str, float]:
        program = f"{doc['prompt']}{answers[0]}\n{doc['test']}\ncheck({doc['entry_point']})\n"
        return {"pass@1": float(passes(program))}

    return {
        **_task("humaneval", docs),
        "output_type": "generate_until",
        "doc_to_target": lambda doc: doc["test"],
        "process_results": passed,
        "metric_list": [_mean("pass@1")],
        "generation_kwargs": {
            "until": _FUNCTION_ENDS,
            "max_gen_toks": _FUNCTION_TOKENS,
            "do_sample": False,
        },
        "unsafe_code": True,
    }


class _BigBenchPrompt:
    """The prompt of an example, by the task's prefixes."""

    def __init__(self, task: Fields, path: Path) -> None:
        def setting(name: str, default: str) -> str:
            return _text(task.get(name, default), f"'{name}'", str(path), empty=True)

        self.before = setting("task_prefix", "")  # of all, once
        self.between = setting("few_shot_example_separator", "\n")
        self.stop = setting("stop_string", "")
        self._input = setting("example_input_prefix", "\nQ: ")
        self._output = setting("example_output_prefix", "\nA: ")
        self._choice = setting("choice_prefix", "\n  choice: ")
        self._lists_choices = task.get("append_choices_to_input", True) is not False
        pattern = setting("output_regex", "" if self.stop else _ANSWER)
        try:
            self.answer_pattern = re.compile(pattern) if pattern else None
        except re.error as error:
            raise TrainError(f"{path}: 'output_regex' is no pattern: {error}.") from error

    def __call__(self, example: Fields, choices: Sequence[str], place: str) -> str:
        asked = _text(example.get("input"), "'input'", place)
        shown = sorted(choices) if self._lists_choices else []
        # In the file's order the right one often comes first.
        random.Random(asked).shuffle(shown)
        listed = "".join(self._choice + choice for choice in shown)
        return f"{self._input}{asked}{listed}{self._output}"


def _task(name: str, docs: Sequence[Fields]) -> Fields:
    """What all have in common; lm-eval reads the questions through `datasets`."""

    def dataset(**_: Any) -> Mapping[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(list(docs))}

    return {
        "task": name,
        "custom_dataset": dataset,
        "test_split": "test",
        "doc_to_text": lambda doc: doc["prompt"],
        "target_delimiter": "",
    }


def _multiple_choice(name: str, docs: Sequence[Fields], *, delimiter: str) -> Fields:
    one_is_right = all(len(doc["gold"]) == 1 for doc in docs)
    graded: Fields = {}
    if not all(score in (0.0, 1.0) for doc in docs for score in doc[WORTH]):
        graded = {"process_results": _grade, "metric_list": [_mean(GRADE)]}
    return {
        **_task(name, docs),
        **(_SHOWN if one_is_right else {}),
        "output_type": "multiple_choice",
        "doc_to_choice": lambda doc: doc["choices"],
        "doc_to_target": lambda doc: doc["gold"][0] if one_is_right else doc["gold"],
        "metric_list": [_mean("acc"), _mean("acc_norm")],
        "target_delimiter": delimiter,
        **graded,
    }


def _grade(doc: Mapping[str, Any], answers: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """What the likeliest choice is worth; of two alike the first."""
    nats = [likelihood for likelihood, _ in answers]
    return {GRADE: doc[WORTH][nats.index(max(nats))]}


def _generated(
    name: str,
    docs: Sequence[Fields],
    *,
    until: Sequence[str],
    pattern: re.Pattern[str] | None = None,
) -> Fields:
    def match(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
        answer = answers[0]
        if pattern is not None:
            found = pattern.search(answer)
            answer = "" if found is None else found.group(found.re.groups and 1) or ""
        targets = {target.strip() for target in doc["targets"]}
        return {"exact_match": float(answer.strip() in targets)}

    return {
        **_task(name, docs),
        **_SHOWN,
        "output_type": "generate_until",
        "doc_to_target": lambda doc: doc["targets"][0],
        "process_results": match,
        "metric_list": [_mean("exact_match")],
        "generation_kwargs": {"until": list(until), "do_sample": False},
    }


def _mean(metric: str) -> Fields:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}


def _rows(path: Path) -> Iterator[tuple[str, Fields]]:
    """(where it stands, the object) of each line."""
    number = 0
    for at, line in enumerate(_read(path).split("\n"), 1):  # not splitlines: JSON holds U+2028
        if line.strip():
            number += 1
            place = f"{path}, line {at}"
            yield place, _parse(line, place)
    if not number:
        raise TrainError(f"{path} holds no question.")


def _object(path: Path) -> Fields:
    return _parse(_read(path), str(path))


def _parse(text: str, place: str) -> Fields:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrainError(f"{place} is no JSON: {error}.") from error
    if not isinstance(row, dict):
        raise TrainError(f"{place} is not a JSON object.")
    return row


def _read(path: Path) -> str:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            return str(file.read())
    except UnicodeDecodeError as error:
        raise TrainError(f"{path} is not UTF-8 text.") from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainError(f"{path} cannot be read: {reason}.") from error


def _choices(choices: Any, place: str) -> list[str]:
    if not isinstance(choices, list) or len(choices) < 2:
        raise TrainError(f"{place}: a question needs two choices or more.")
    return [_text(choice, "a choice", place) for choice in choices]


def _text(value: Any, what: str, place: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise TrainError(f"{place}: {what} is missing or no text.")
    if (fault := unicode_fault(value)) is not None:
        raise TrainError(f"{place}: {what} {fault}.")
    return value


def _name(path: Path) -> str:
    """`siqa` of siqa.jsonl and siqa.jsonl.gz."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _beside(folder: Path) -> str:
    """The end of the sentence: the nearest task there, or the subtasks inside."""
    inside = sorted(path.parent.name for path in folder.glob("*/task.json"))
    if inside:
        return f"; it holds {', '.join(inside[:5])}{', …' * (len(inside) > 5)}."
    names = [path.parent.name for path in folder.parent.glob("*/task.json")]
    return nearest(folder.name, names) if names else "."
