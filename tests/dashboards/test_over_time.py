"""What was spent, by figure, page and table: one number, also where hours have no intensity."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from carbontrack import config
from carbontrack.ledger.url import ledger_url
from dashboards import data, figures
from dashboards.live.view import View
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded, write_runs

FACTORS = {"zone": "FRA", "pue": 1.3, "tariff": 0.1}


@pytest.fixture(params=[[0.1, 0.5, 0.3], [0.1, 0.5], [0.1], []], ids="{0}-hours".format)
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A run of three hours on two devices, of which some have an intensity."""
    url = ledger_url(str(tmp_path / "ledger.db"))
    one = Recorded(count=2, seconds=3 * 3600.0)
    hours = [
        pictures.window_at(
            one.start_ms + hour * 3_600_000 + minute * 60_000, 60, 100.0 * (hour + 1)
        )
        for hour in range(3)
        for minute in range(60)
        if not (hour == 1 and minute < 20)
    ]
    rows = [row for s in one.sensors for row in pictures.all_levels(s.uuid, hours)]
    pictures.write(url, one, rows, [], one.step_rows)
    if request.param:
        pictures.import_hours(url, "FRA", one.start_ms, request.param)
    return url


def test_figure_and_page_end_where_the_table_does(url: str) -> None:
    loaded = pictures.load(url, **FACTORS)
    estimate = loaded.estimate
    end = pd.Series([pd.Timestamp(loaded.run.ended_ms or 0, unit="ms", tz="UTC")])
    assert data.emissions_g(loaded, end)[0] == pytest.approx((estimate.tco2e or 0) * 1e6)
    assert data.costs(loaded, end)[0] == pytest.approx(estimate.cost)
    _, lower = figures.carbon_by_hour(loaded).axes
    grams = sum(patch.get_data().values.sum() for patch in lower.patches)  # type: ignore[attr-defined]
    assert grams == pytest.approx((estimate.tco2e or 0) * 1e6)
    view = View(url, config.flags(**FACTORS))
    try:
        run = view.find("last")
        progress = view.progress(run, points=300)
        assert progress["tco2e"][-1] == pytest.approx(estimate.tco2e)
        begin_ms, end_ms = loaded.run.started_ms, loaded.run.ended_ms or 0
        for from_ms in (None, begin_ms + 3_600_000, begin_ms + 5_000_000, begin_ms + 9_000_000):
            spent = view.series(run, from_ms=from_ms, to_ms=end_ms, points=300)["spent"]
            for name in ("facility_kwh", "tco2e", "cost"):
                cell = getattr(estimate, name)
                assert spent[name][-1] == pytest.approx(cell), (name, from_ms)
    finally:
        view.close()


def test_a_run_without_factors_has_no_facility_energy(tmp_path: Path) -> None:
    url = ledger_url(str(tmp_path / "ledger.db"))
    write_runs(url, Recorded(count=2, seconds=3 * 3600.0, facility={"zone": "NOWHERE"}))
    view = View(url, config.flags(pue=1.3))
    try:
        run = view.find("last")
        progress = view.progress(run, points=300)
        spent = view.series(run, points=300)["spent"]
    finally:
        view.close()
    for columns in (progress, spent):
        assert columns["time_ms"]
        for name in ("facility_kwh", "tco2e", "cost"):
            assert set(columns[name]) == {None}, name
