"""A ledger of several runs with 8 devices each."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.vocabulary import Status
from tests.fixtures.runs import Recorded, write_ledger

SMALL = Recorded(name="small", number=1, project="llm", tags={"team": "nlp"}, model={"name": "s"})
LARGE = Recorded(name="large", number=2, project="llm", count=16, host="node2", user="bob")
FAILED = Recorded(name="large", number=3, seconds=600.0, status=Status.FAILED, exit_code=9)
SIMULATED = Recorded(name="sim", number=40, meter="sim", quality="simulated")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return write_ledger(tmp_path / "ledger.db", SMALL, LARGE, FAILED, SIMULATED)
