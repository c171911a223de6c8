"""What the energy of a scope is of, and what it leaves out, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbontrack.account.result import unique
from carbontrack.vocabulary import Scope

_PARTS = ("GPUs", "CPUs", "memory")
_INSIDE: Mapping[str, Sequence[str]] = {
    Scope.GPU: ("GPUs",),
    Scope.GPU_OF_MODULE: ("GPUs",),
    Scope.CPU: ("CPUs",),
    Scope.DRAM: ("memory",),
    Scope.NODE: _PARTS,
}
_WORDS: Mapping[str, Sequence[str]] = {**_INSIDE, Scope.NODE: ("whole nodes",)}


def inside(scope: str) -> Sequence[str]:
    """What a scope such as gpu+cpu has; a word of another package's as it is."""
    return unique(part for one in scope.split("+") for part in _WORDS.get(one, (one,)))


def left_out(scope: str) -> Sequence[str]:
    """Which of GPUs, CPUs and memory a scope does not have."""
    has = {part for one in scope.split("+") for part in _INSIDE.get(one, ())}
    return [part for part in _PARTS if part not in has]
