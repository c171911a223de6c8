"""Killed before any SQL statement, a command leaves the ledger as before or as after."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fixtures.half_done import COMMANDS, rounds_of

ROUNDS = 10


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_any_statement_nothing_is_half_done(name: str, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    found, wrong = rounds_of(name, tmp_path, rounds=ROUNDS, seed=seed)
    assert wrong == []
    assert [death.exit_code for death in found] == [-9] * ROUNDS
