"""Every vocabulary of llama_train: what is given on its command line, or logged by what it does.

Those of carbontrack are not public names of it; a test holds the events to what it knows.
"""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """Output for people or for programs."""

    TEXT = "text"
    JSON = "json"


class Dtype(StrEnum):
    """Of exported weights."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class EventKind(StrEnum):
    """What a training or an evaluation logs beside steps."""

    PHASE = "phase"
    EVAL = "eval"
    SCORE = "score"
    CHECKPOINT = "checkpoint"
    SKIPPED = "skipped"
    PREEMPTED = "preempted"
    DISTILLED = "distilled"


class Phase(StrEnum):
    """What a training or an evaluation does for a while."""

    COMPILE = "compile"
    TRAIN = "train"
    EVAL = "eval"
    CHECKPOINT = "checkpoint"
    DATA_WAIT = "data wait"
    EVALUATION = "evaluation"
    GENERATE = "generate"
    SCORE = "score"
    UPDATE = "update"


class Method(StrEnum):
    """How a chat model is aligned with reward models."""

    REJECTION = "rejection"
    PPO = "ppo"
