"""`carbontrack.track()` as people use it: what a block used, start and stop, a decorator."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carbontrack.record.track import Track
from carbontrack.record.tracked import UNKNOWN, Block, read_block
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import PATIENCE_S, Wrapper

# Waits until so many seconds that begin from now on are in the ledger.
PREAMBLE = """
import asyncio, json, os, sqlite3, sys, time, carbontrack
def recorded(seconds):
    now = [time.time() * 1000]
    while True:
        try:
            with sqlite3.connect(f"file:{os.environ['LEDGER']}?mode=ro", uri=True) as db:
                if db.execute(COUNT, now).fetchone()[0] >= seconds: return
        except sqlite3.OperationalError: pass
        time.sleep(0.05)
COUNT = "select count(distinct start_ms) from windows where level = 1 and start_ms >= ?"
"""


def run(wrapper: Wrapper, script: str, *, wrapped: bool = False) -> tuple[Any, str]:
    """The JSON that a script prints, and what stands on its stderr. Where it is `wrapped`, the
    command line alone names the ledger, from the folder in which the command is given.
    """
    command = [sys.executable, "-c", PREAMBLE + script]
    environ = {**wrapper.env, "LEDGER": str(wrapper.ledger)}
    if wrapped:
        del environ["CARBONTRACK_DB"]
        command = wrapper.argv(*command, options=("--quiet", "--db", wrapper.ledger.name))
    done = subprocess.run(
        command,
        env=environ,
        cwd=wrapper.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


BLOCK = """
with carbontrack.track("outer", meter="sim:a100x2", tags=["team=nlp"], quiet=True) as outer:
    outer.energy_kwh  # may be asked at once
    recorded(1)
    with carbontrack.track("inner") as inner:
        pid = os.fork()
        if not pid:
            inner.stop()
            outer.stop()
            os._exit(0)
        os.waitpid(pid, 0)
        recorded(3)
    meanwhile = repr(outer)
print(json.dumps({
    "meanwhile": meanwhile, "id": outer.id, "inner_id": inner.id,
    "outer": [outer.energy_kwh, outer.tco2e, outer.cost, outer.coverage],
    "inner": [inner.energy_kwh, inner.tco2e, inner.cost, inner.coverage],
    "currency": outer.currency, "summary": outer.summary(), "repr": repr(inner),
    "html": outer._repr_html_(),
}))
"""


def test_a_block_says_what_it_used_and_what_one_inside_it_did(wrapper: Wrapper) -> None:
    said, err = run(wrapper, BLOCK)
    assert err == ""
    (row,) = wrapper.json("table", said["id"])["rows"]
    assert said["outer"] == [row["energy_kwh"], row["tco2e"], row["cost"], row["coverage"]]
    assert said["inner_id"] is None
    assert wrapper.json("show", said["id"])["tags"] == {"team": "nlp"}
    for part, whole in zip(said["inner"][:3], said["outer"][:3], strict=True):
        assert 0 < part < whole
    assert said["currency"] == "USD"
    assert said["meanwhile"].startswith("<carbontrack.track outer, ")
    assert said["repr"].startswith("<carbontrack.track inner (part of outer), ")
    assert said["summary"].splitlines()[0] == "outer"
    assert "simulated" in said["summary"]
    assumed = [line.partition("assumed: ")[2] for line in said["summary"].splitlines()[2:4]]
    assert assumed == ["PUE, intensity", "PUE, tariff"], "of CO2e, of the cost"
    assert said["html"].startswith("<table><caption>outer</caption><tr><th>energy</th><td>")


WRAPPED = """
@carbontrack.track()
async def train():
    await asyncio.to_thread(recorded, 1)
    return 7
@carbontrack.track("steps")
def steps():
    yield from (1, 2)
assert asyncio.run(train()) == 7
assert list(steps()) == [1, 2]
os.chdir("/")
t = carbontrack.track("cell").start()
recorded(2)
t.stop()
print(json.dumps([t.id, t.energy_kwh, repr(t)]))
"""


def test_a_block_of_a_wrapped_job_is_measured_in_its_time(wrapper: Wrapper) -> None:
    (run_id, energy_kwh, said), err = run(wrapper, WRAPPED, wrapped=True)
    assert (run_id, err) == (None, "")
    (whole,) = wrapper.json("runs")["runs"]
    assert 0 < energy_kwh < whole["energy_kwh"]
    assert said.startswith("<carbontrack.track cell (part of")


def test_each_call_of_a_decorated_function_is_a_run_of_its_name(wrapper: Wrapper) -> None:
    script = """
@carbontrack.track(meter="sim:a100x1", quiet=True, tags={"a": "b"})
def train(x):
    carbontrack.log_step(1, loss=float(x))
    return x
print(json.dumps([train(1), train(2), train.__name__]))
"""
    assert run(wrapper, script) == ([1, 2, "train"], "")
    runs = wrapper.json("runs")["runs"]
    assert [(one["name"], one["status"], one["tags"]) for one in runs] == [
        ("train", "completed", {"a": "b"})
    ] * 2


def test_a_decorator_without_parentheses_is_one_too(wrapper: Wrapper) -> None:
    wrapper.env["CARBONTRACK_METER"] = "sim:a100x2"
    script = """
@carbontrack.track
def train(x=3):
    return x
@carbontrack.track
def evaluate():
    return 4
print(json.dumps([train({"lr": 1}), train(), evaluate()]))
"""
    answer, _ = run(wrapper, script)
    assert answer == [{"lr": 1}, 3, 4]
    names = [one["name"] for one in wrapper.json("runs")["runs"]]
    assert names == ["evaluate", "train", "train"]


def test_what_makes_no_sense_is_one_warning(wrapper: Wrapper) -> None:
    script = """
t = carbontrack.track("x", meter="sim:a100x1", quiet=True)
t.stop()
t.start().start()
left = carbontrack.track("y", tags=["team"])
with left: pass
for wrong in ({"zone": "DEU"}, {"meter": 5}, {"hz": "x"}):
    with carbontrack.track("z", **wrong) as z: pass
with carbontrack.track("z", "y") as z: pass
print(json.dumps([left.id, left.energy_kwh, left.summary(), repr(left)]))
"""
    said, err = run(wrapper, script)
    nothing = "nothing was recorded"
    assert said == [None, None, nothing, f"<carbontrack.track {nothing}>"]
    assert err.splitlines() == [
        "carbontrack: stop() without start(): nothing was recorded.",
        "carbontrack: start() of a block that goes on already: ignored.",
        "carbontrack: this block is not recorded: tag team: not KEY=VALUE. "
        'Example: tags=["team=nlp"].',
        "carbontrack: this block is not recorded: zone: no such setting. Give name, project, tags, "
        "db, meter, devices, hz or quiet by their names.",
        "carbontrack: this block is not recorded: meter 5: not a text.",
        "carbontrack: this block is not recorded: hz 'x': not a number.",
        "carbontrack: this block is not recorded: arguments: no such setting. Give name, project, "
        "tags, db, meter, devices, hz or quiet by their names.",
    ]
    # One that is never stopped ends with the process.
    (one,) = wrapper.json("runs")["runs"]
    assert (one["name"], one["status"]) == ("x", "completed")


@pytest.fixture
def pauses_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long reading waited each time for the recorder, which it does not do long here."""
    paused_s: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=paused_s.append)
    monkeypatch.setattr("carbontrack.record.tracked.time", clock)
    monkeypatch.setattr("carbontrack.record.track.PATIENCE_S", 0.1)
    return paused_s


def test_a_ledger_that_cannot_be_read_is_one_warning_and_one_wait(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], pauses_s: list[float]
) -> None:
    track = Track()
    track._block = Block("01", f"sqlite:///{tmp_path / 'none.db'}", None, 0, ended_ms=1)
    assert track.energy_kwh is None
    assert capfd.readouterr().err.startswith("carbontrack: what this block used is unknown: ")
    pauses_s.clear()
    assert [track.tco2e, track.cost, track.coverage] == [None] * 3
    assert (capfd.readouterr().err, pauses_s) == ("", [])
    track._block = Block("01", f"sqlite:///{tmp_path / 'none.db'}", None, 0)
    assert read_block(track._block) is UNKNOWN  # it may come yet
    assert list(tmp_path.iterdir()) == []


def test_an_end_that_never_comes_is_waited_for_once(tmp_path: Path, pauses_s: list[float]) -> None:
    """As where the recorder was killed."""
    one = Recorded(count=2, seconds=600.0)
    path = write_ledger(tmp_path / "ledger.db", one)
    track = Track()
    track._block = Block(one.run.id, f"sqlite:///{path}", "x", one.start_ms, one.end_ms + 1)
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("update recordings set ended_ms = null, status = 'running'")
    found = track.energy_kwh
    pauses_s.clear()
    assert track.energy_kwh == found
    assert found is not None
    assert pauses_s == []


def test_a_block_of_a_run_has_its_share_of_the_time(tmp_path: Path) -> None:
    one = Recorded(count=2, seconds=7200.0, steps=20)
    path = write_ledger(tmp_path / "ledger.db", one)
    block = Block(one.run.id, f"sqlite:///{path}", "third", one.start_ms, one.start_ms + 2_400_000)
    found = read_block(block)
    assert found.is_final
    assert found.energy_kwh == pytest.approx(2 * 360 * 2400 / 3.6e6)
    assert found.estimate is not None
    assert found.estimate.duration_s == 2400
    assert (
        "<b>"
        not in read_block(
            Block(one.run.id, f"sqlite:///{path}", "<b>", one.start_ms, one.end_ms)
        ).html()
    )
