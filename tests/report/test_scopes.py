"""What a scope has and leaves out: every word that a meter or an import may write."""

from __future__ import annotations

import pytest

from carbontrack.report.scopes import inside, left_out
from carbontrack.vocabulary import Scope

PARTS = {
    "gpu": ["GPUs"],
    "gpu-of-module": ["GPUs"],  # a Grace Hopper's, read without its CPU
    "cpu": ["CPUs"],
    "dram": ["memory"],
}


def test_every_scope_is_known() -> None:
    assert {*Scope} == {*PARTS, Scope.NODE}


@pytest.mark.parametrize("scope", [*PARTS, "gpu+cpu", "gpu-of-module+cpu+dram"])
def test_what_is_in_a_scope_is_not_left_out(scope: str) -> None:
    parts = [part for word in scope.split("+") for part in PARTS[word]]
    assert inside(scope) == parts
    assert left_out(scope) == [part for part in ("GPUs", "CPUs", "memory") if part not in parts]


def test_a_node_has_all_and_another_packages_word_says_nothing() -> None:
    assert (inside("node"), left_out("node")) == (["whole nodes"], [])
    assert (inside("rack"), left_out("rack")) == (["rack"], ["GPUs", "CPUs", "memory"])
