"""Counts in messages for people, with their nouns."""

from __future__ import annotations

import sys

from llama_train import host


def counted(number: int, noun: str) -> str:
    """1 step, 24 steps, 1,204 steps."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def say_left_out(number: int, noun: str, why: str) -> None:
    """Say once, and not on every rank, how many items of the data are not used."""
    if number and host.rank() == 0:
        print(f"{counted(number, noun)} left out: {why}", file=sys.stderr)
