"""The logs of trainings: a named pattern each, whose groups `--steps-from-log` describes, and the
JSON that some write instead. Pure, and light: the recorder knows the names too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_DATE_TIME = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?"


def _key(name: str, group: str) -> str:
    """An optional entry of a dict as Python prints it."""
    return rf"(?:.*?'{name}': '?(?P<{group}>[^,'}}]+))?"


# The surest first. torchtitan's tps is of a device, so it is no tokens_per_s.
NAMED: Mapping[str, str] = {
    "torchtitan": (
        rf"(?:(?P<time>{_DATE_TIME}).*)?\bstep:\s+(?P<step>\d+)\s+loss:\s+(?P<loss>\S+)"
        r"(?:\s+grad_norm:\s+(?P<grad_norm>\S+))?"
    ),
    "litgpt": r"\biter \d+ step (?P<step>\d+) ?[|:] loss(?: train:)? (?P<loss>[^\s,]+)",
    "nanogpt": r"\biter (?P<step>\d+): loss (?P<loss>[^\s,]+)",
    "build-nanogpt": r"^\s*(?P<step>\d+) train (?P<loss>\S+)\s*$",
    "modded-nanogpt": r"\bstep:(?P<step>\d+)/\d+ train_loss:(?P<loss>\S+)",
    "llm.c": (
        r"\bstep\s+(?P<step>\d+)/\d+ \| (?:train )?loss (?P<loss>[^\s|]+)"
        r"(?:.*?\bnorm (?P<grad_norm>[^\s|]+))?(?:.*?\blr (?P<lr>[^\s|]+))?"
        r"(?:.*?(?P<tokens_per_s>[\d.]+) tok/s)?"
    ),
    "megatron": (
        rf"(?:\[(?P<time>{_DATE_TIME})\].*?)?\biteration\s+(?P<step>\d+)/\s*\d+ \|"
        r"(?:.*?consumed tokens:\s+(?P<tokens_total>[\w.,]+))?"
        r"(?:.*?learning rate:\s+(?P<lr>[^\s|]+))?(?:.*?lm[ -]loss:\s+(?P<loss>[^\s|]+))?"
        r"(?:.*?grad norm:\s+(?P<grad_norm>[^\s|]+))?"
    ),
    "llm-foundry": (
        r"\[batch=(?P<step>\d+)/|\bTrain loss/train/total: (?P<loss>\S+)"
        r"|\bTrain time/token: (?P<tokens_total>\d+)|\bTrain lr-\S+: (?P<lr>\S+)"
        r"|\bthroughput/tokens_per_sec: (?P<tokens_per_s>\S+)"
    ),
    "trl": (
        rf"\{{'step': (?P<step>\d+), 'loss': '?(?P<loss>[^,'}}]+){_key('grad_norm', 'grad_norm')}"
        rf"{_key('learning_rate', 'lr')}{_key('num_(?:input_)?tokens(?:_seen)?', 'tokens_total')}"
    ),
    # They print no step beside the loss: the lines are counted.
    "huggingface": (
        rf"\{{'loss': '?(?P<loss>[^,'}}]+){_key('grad_norm', 'grad_norm')}"
        rf"{_key('learning_rate', 'lr')}{_key('num_(?:input_)?tokens(?:_seen)?', 'tokens_total')}"
    ),
}
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_LOOKED_AT = 5_000  # lines, to find whose log it is
_VALUES = {
    "step": ("step", "current_steps", "global_step"),
    "loss": ("loss", "train_loss"),
    "lr": ("learning_rate", "lr"),
    "grad_norm": ("grad_norm",),
    "tokens_total": ("num_input_tokens_seen", "num_tokens", "total_tokens"),
}


def named_for(lines: Sequence[str]) -> str | None:
    """The name of the pattern that these lines match most; None if none does."""
    looked_at = [_ANSI.sub("", line) for line in lines[:_LOOKED_AT]]
    counts = {
        name: sum(re.search(pattern, line) is not None for line in looked_at)
        for name, pattern in NAMED.items()
    }
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def json_steps(text: str) -> list[dict[str, Any]] | None:
    """The steps with a loss of a `trainer_state.json`, or of JSON lines; None if it is neither.

    `num_input_tokens_seen` is cumulative and counts padding, unless the job says otherwise.
    """
    try:
        found = json.loads(text)
        entries = found.get("log_history") if isinstance(found, dict) else None
        if entries is None:
            entries = [found]
    except ValueError:
        entries = list(_objects(text))
    steps = [_step(entry) for entry in entries if isinstance(entry, dict)]
    return [step for step in steps if step.keys() >= {"step", "loss"}] or None


def _objects(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        if line.lstrip().startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _step(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        name: next((entry[key] for key in keys if entry.get(key) is not None), None)
        for name, keys in _VALUES.items()
    }
    return {name: value for name, value in found.items() if value is not None}
