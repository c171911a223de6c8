"""What two recordings of one run both have counts once in curves, as it does in the table."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from sqlalchemy import Connection

from carbontrack import config
from carbontrack.account.curve import EnergyCurve
from carbontrack.ledger import engine, kept_overlaps, latest, read
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import ledger_url
from carbontrack.units import J_PER_KWH
from carbontrack.vocabulary import Status
from dashboards.data import load
from dashboards.live.view import View
from tests.ledger.test_overlaps import drop_minutes, drop_seconds, keys, put, recorded, run_at

FACTORS = {"zone": "FRA", "pue": 1.3, "tariff": 0.1}
_MOST_W = 400.0  # of what `put` makes up
_AROUND_S = 3600.0  # an hour ends here
_POINTS = (10_000, 400, 100, 12, 4, 2)


@pytest.fixture(params=range(2))
def dice(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ledger_url(str(tmp_path_factory.mktemp("ledger") / "ledger.db"))


@pytest.fixture
def ledger(url: str, dice: random.Random) -> Iterator[WritableLedger]:
    """A run of some recordings beside each other, one of which was killed; before an hour ends, and
    after it.
    """
    ledger = open_ledger(url)
    run = run_at(1, _AROUND_S - 100)
    for name in "abc":
        start_s = _AROUND_S - 100 + dice.uniform(0, 60)
        killed = {"ended_ms": None, "status": Status.RUNNING} if name == "b" else {}
        one = recorded(run, start_s, start_s + dice.uniform(30, 300), name, **killed)
        put(ledger, run, one, dice=dice)
    yield ledger
    ledger.close()


def amounts(columns: dict[str, list[float]]) -> dict[int, float]:
    """Energy in J by device."""
    found: dict[int, float] = defaultdict(float)
    for device_key, energy_j in zip(columns["device_key"], columns["energy_j"], strict=True):
        assert energy_j > -1e-9
        found[int(device_key)] += energy_j
    return found


def check(connection: Connection, url: str, dice: random.Random, levels_s: tuple[int, ...]) -> None:
    (run,) = read.list_runs(connection)
    true_j = {used.device_key: used.energy_j for used in read.totals(connection, run)}
    for points in _POINTS:
        series = read.series(connection, run, points=points)
        assert amounts(dict(series.columns)) == pytest.approx(true_j, abs=1e-6), points
        curve = EnergyCurve.of(series, from_ms=run.started_ms, to_ms=run.end_ms)
        assert all(before <= after for before, after in pairwise(curve.energies_j))
    for level_s in levels_s:
        windows = read.windows(connection, run, level_s)
        assert amounts(windows) == pytest.approx(true_j, abs=1e-6), level_s
    if 1 in levels_s:
        for second in read.series(connection, run, points=10_000).columns["energy_j"]:
            assert second <= _MOST_W
        now = latest.latest_power(connection, run, read.sensors(connection, run))
        assert now is not None
        assert now.devices == len(true_j)
        assert now.power_w <= _MOST_W * len(true_j)
    whole_kwh = sum(energy_j or 0.0 for energy_j in true_j.values()) / J_PER_KWH
    loaded = load(connection, run, config.flags(**FACTORS))
    assert loaded.power["energy_j"].sum() / J_PER_KWH == pytest.approx(whole_kwh)
    assert loaded.curve.total_j / J_PER_KWH == pytest.approx(whole_kwh)
    view = View(url, config.flags(**FACTORS))
    try:
        cells = view.run(run)["rows"][0]
        assert cells["energy_kwh"] == pytest.approx(whole_kwh)
        length_ms = run.end_ms - run.started_ms
        minutes = (run.started_ms + dice.randrange(length_ms) for _ in range(4))
        for from_ms in (None, *(at_ms // 60_000 * 60_000 for at_ms in minutes)):
            for points in _POINTS:
                spent = view.series(run, from_ms=from_ms, to_ms=run.end_ms, points=points)["spent"]
                if not spent["time_ms"]:
                    continue  # the ledger has no window that is wholly in the range
                for name in ("facility_kwh", "tco2e", "cost"):
                    assert spent[name][-1] == pytest.approx(cells[name]), (name, from_ms, points)
    finally:
        view.close()


@pytest.mark.parametrize(
    ("drop", "levels_s"),
    [(None, (1, 60, 3600)), (drop_seconds, (60, 3600)), (drop_minutes, (3600,))],
    ids=["seconds", "minutes", "hours"],
)
@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "as-windows-say"])
def test_each_joule_counts_once(
    url: str,
    ledger: WritableLedger,
    dice: random.Random,
    drop: Callable[[WritableLedger], None] | None,
    levels_s: tuple[int, ...],
    is_kept: bool,
) -> None:
    reader = engine.open_reader(url)
    try:
        with reader.connect() as connection:
            if is_kept:
                kept_overlaps.keep(ledger, keys(connection))
            if drop is not None:
                drop(ledger)
            connection.rollback()
            check(connection, url, dice, levels_s)
    finally:
        reader.dispose()
