"""What the pages are answered, without a server."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from carbontrack import config
from carbontrack.ledger.url import ledger_url
from dashboards.live.view import View
from tests.fixtures.runs import Recorded, write_ledger


def test_methods_side_by_side_have_the_same_factors(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(count=2))
    view = View(ledger_url(str(tmp_path / "ledger.db")), config.flags())
    try:
        run = view.find("last")
        rows = {row["method"]: row for row in view.run(run)["rows"]}
        for name in ("pue", "intensity_kg_per_kwh"):
            assert rows["report"][name] == rows["measured"][name]
        assert rows["report"]["tco2e"] / rows["measured"]["tco2e"] == pytest.approx(400 / 360)
        for method, row in rows.items():
            pasted = csv.DictReader(io.StringIO(view.table(run, method=method, format="csv")))
            assert [float(line["tco2e"]) for line in pasted] == [row["tco2e"]]
    finally:
        view.close()
