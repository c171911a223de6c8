"""`carbontrack watch`: a node recorded by a service that stops, starts again and lives on."""

from __future__ import annotations

import os
import shlex
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from carbontrack.record.this_node import hostname
from tests.fixtures import documents
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.wrap import CARBONTRACK, PATIENCE_S, Wrapper, wait_until
from tests.record.test_clock import clock_shim  # noqa: F401
from tests.record.test_kill import recorder_of

MIDNIGHT = datetime(2027, 3, 1, tzinfo=UTC)
MIDDAY = datetime(2027, 2, 15, 12, tzinfo=UTC)
SIMULATED = ("--meter", "sim:a100x2")


@pytest.fixture
def midday(wrapper: Wrapper, clock_shim: Path, tmp_path: Path) -> None:  # noqa: F811
    """What the wrapper starts sees no day end: then a watch begins another recording."""
    shift = tmp_path / "shift"
    shift.write_text(str(round(MIDDAY.timestamp() - time.time())))
    wrapper.environ |= {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}


@contextmanager
def watching(
    wrapper: Wrapper, *options: str, command: tuple[str, ...] = ("watch",), **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """A watch whose recording has at least one second of each device."""
    before = wrapper.recordings()
    with subprocess.Popen(
        [*CARBONTRACK, *command, *options],
        env=wrapper.env | environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or seconds_of_newest(wrapper, before))
            yield process
        finally:
            process.kill()


def seconds_of_newest(wrapper: Wrapper, before: frozenset[str]) -> bool:
    """Whether a recording that was not there has seconds of every device of it."""
    fresh = wrapper.recordings() - before
    rows = asked(
        wrapper,
        "select recordings.id, sensors.key, count(windows.level) from recordings "
        "join sensors on sensors.recording_key = recordings.key left join windows "
        "on windows.recording_key = recordings.key and sensor_key = sensors.key and level = 1 "
        "group by recordings.id, sensors.key",
    )
    counts = [count for recording, _, count in rows if recording in fresh]
    return bool(counts) and min(counts) > 0


def asked(wrapper: Wrapper, query: str) -> list[Any]:
    """The rows; none while the ledger is just being made, or is not there."""
    try:
        with closing(sqlite3.connect(f"file:{wrapper.ledger}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def stop(process: subprocess.Popen[str], signo: signal.Signals) -> tuple[int, str]:
    process.send_signal(signo)
    assert process.stderr is not None
    said = process.stderr.read()
    return process.wait(PATIENCE_S), said


@pytest.mark.usefixtures("midday")
@pytest.mark.parametrize("devices", ["simulated", "stand-in"])
def test_a_watch_goes_on_with_its_run_when_it_is_started_again(
    wrapper: Wrapper, nvml_stub: NvmlStub, devices: str
) -> None:
    options = SIMULATED if devices == "simulated" else ("--meter", "nvml")
    if devices == "stand-in":  # all of the node, whatever the service can see
        wrapper.environ |= {**nvml_stub.start(3, "a100").env, "CUDA_VISIBLE_DEVICES": "0"}
    ends = []
    for signo in (signal.SIGTERM, signal.SIGINT):
        with watching(wrapper, *options) as watch:
            ends.append(stop(watch, signo))
    line = f"carbontrack: watching {hostname()} until it is stopped.\n"
    assert ends == [(0, line)] * 2

    (run,) = wrapper.json("runs")["runs"]
    assert (run["name"], run["status"]) == (f"watch {hostname()}", "completed")
    assert asked(wrapper, "select kind from runs") == [("watch",)]
    (row,) = wrapper.json("table")["rows"]
    assert row["devices"] == (2 if devices == "simulated" else 3)
    assert row["energy_kwh"] > 0
    recorded = asked(wrapper, "select status, exit_code, ended_ms - started_ms from recordings")
    assert [one[:2] for one in recorded] == [("completed", 0)] * 2


@pytest.mark.usefixtures("midday")
def test_a_node_is_watched_once_and_not_at_all_without_a_meter(wrapper: Wrapper) -> None:
    with watching(wrapper, *SIMULATED, "--quiet") as watch:
        second = wrapper.carbontrack("watch", *SIMULATED)
        assert second.returncode == 2
        assert "watched already" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        code, said = stop(watch, signal.SIGTERM)
        assert (code, said) == (0, "")
    for meter in ("auto", "cpu-model", "nvml,rapl"):
        done = wrapper.carbontrack("watch", "--meter", meter)
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert len(wrapper.recordings()) == 1


@pytest.mark.usefixtures("midday")
def test_a_watch_without_its_recorder_ends_and_says_so(wrapper: Wrapper) -> None:
    with watching(wrapper, *SIMULATED) as watch:
        recorder = recorder_of(wrapper, {watch.pid})
        assert recorder is not None
        os.kill(recorder, signal.SIGKILL)
        assert watch.stderr is not None
        assert "The recorder of the watch has ended." in watch.stderr.read()
        assert watch.wait(PATIENCE_S) == 1
    with watching(wrapper, *SIMULATED) as watch:
        assert stop(watch, signal.SIGTERM)[0] == 0
    assert len(wrapper.json("runs")["runs"]) == 1
    states = asked(wrapper, "select status from recordings order by started_ms")
    assert states == [("running",), ("completed",)], "the first one's heartbeat has stopped"


def test_a_month_is_a_run_and_no_second_is_in_two(
    tmp_path: Path,
    clock_shim: Path,  # noqa: F811
) -> None:
    shift, lead_s = tmp_path / "shift", 4
    environ = {"LD_PRELOAD": str(clock_shim), "CLOCK_SHIM_FILE": str(shift)}
    midnight_ms = round(MIDNIGHT.timestamp() * 1000)
    for attempt in range(4):  # a machine may be so busy that the watch begins after midnight
        wrapper = Wrapper(tmp_path / str(attempt), environ=environ)
        wrapper.folder.mkdir()
        shift.write_text(str(round(MIDNIGHT.timestamp() - time.time()) - lead_s))
        after = f"select 1 from windows where level = 1 and start_ms > {midnight_ms + 1000}"
        with watching(wrapper, *SIMULATED) as watch:
            wait_until(lambda: asked(wrapper, after))  # noqa: B023
            assert stop(watch, signal.SIGTERM)[0] == 0
        runs = asked(wrapper, "select id, started_ms from runs order by started_ms")
        early = asked(
            wrapper,
            "select count(distinct device_key) from windows join sensors on sensors.key = "
            f"sensor_key where level = 1 and start_ms < {midnight_ms - 1000}",
        )
        if len(runs) == 2 and early == [(2,)]:
            break
        lead_s *= 3
    ends = asked(wrapper, "select started_ms, ended_ms from recordings order by started_ms")
    assert ends[0][1] == ends[1][0] == runs[1][1] == midnight_ms

    starts = defaultdict(list)
    for sensor, start_ms in asked(
        wrapper,
        "select device_key, start_ms from windows join sensors on sensors.key = sensor_key "
        "where level = 1 order by start_ms",
    ):
        starts[sensor].append(start_ms)
    assert len(starts) == 2
    for of_device in starts.values():
        assert all(a < b for a, b in pairwise(of_device))
        assert of_device[0] < midnight_ms - 1000 < of_device[-1]
        assert midnight_ms - 1000 in of_device, "up to the end"
    rows = wrapper.json("table", "--by", "month")["rows"]
    assert {row["group"]["month"] for row in rows} == {"2027-02", "2027-03"}


@pytest.mark.usefixtures("midday")
@pytest.mark.parametrize("how", ["unit", "manifest"])
def test_the_services_of_the_documents_run(
    wrapper: Wrapper, nvml_stub: NvmlStub, tmp_path: Path, how: str
) -> None:
    """As systemd and Kubernetes start them, with a collector; of the meters only NVML is here."""
    command, environ = {"unit": _unit, "manifest": _manifest}[how]()
    team = ("--db", str(tmp_path / "team.db"))
    token = wrapper.ask("collect", "token", "add", "ops", *team).stdout.split()[-1]
    (tmp_path / "token").write_text(token)
    with subprocess.Popen(
        [*CARBONTRACK, "collect", "--listen", "127.0.0.1:0", *team],
        env=wrapper.env,
        stdout=subprocess.PIPE,
        text=True,
    ) as collector:
        assert collector.stdout is not None
        here = {
            "CARBONTRACK_DB": str(wrapper.ledger),
            "CARBONTRACK_SHIP": collector.stdout.readline().strip(),
            "CARBONTRACK_SHIP_TOKEN_FILE": str(tmp_path / "token"),
            "CARBONTRACK_SHIP_TOKEN": token,
        }
        wrapper.environ |= nvml_stub.start(2, "a100").env
        given = {name: here.get(name, value) for name, value in environ.items()}
        words = [word.replace("nvml,rapl", "nvml") for word in command]
        assert words[0].rpartition("/")[2] == "carbontrack"
        with watching(wrapper, command=tuple(words[1:]), **given) as watch:
            assert stop(watch, signal.SIGTERM)[0] == 0
        wait_until(lambda: wrapper.json("runs", *team)["runs"])
        collector.terminate()
    (run,) = wrapper.json("runs", *team)["runs"]
    assert run["project"] == "ops"


def _unit() -> tuple[list[str], dict[str, str]]:
    (unit,) = documents.units("watching.md")
    (start,) = unit["ExecStart"]
    pairs = (one.partition("=") for one in unit["Environment"])
    return shlex.split(start), {name: value for name, _, value in pairs}


def _manifest() -> tuple[list[str], dict[str, str]]:
    (manifest,) = documents.manifests("watching.md")
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    environ = {one["name"]: one.get("value", "") for one in container["env"]}
    return [*container["command"], *container["args"]], environ
