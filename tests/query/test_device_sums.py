"""What a server adds up of a fleet's devices is what adding up device by device gives: the tables
of one ledger in a file, which does the latter, and on a server are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from carbontrack.ledger import engine, kept_overlaps, read, remove
from carbontrack.ledger.device_sums import DeviceSums
from carbontrack.ledger.held import Held
from carbontrack.ledger.recorded_rows import Run, Sensor
from carbontrack.ledger.retain import roll_hours
from carbontrack.ledger.rows import ClockOffset
from carbontrack.ledger.tables import CLOCKS
from carbontrack.ledger.transaction import WritableLedger, open_ledger
from carbontrack.ledger.url import ledger_url as url_of
from carbontrack.ledger.verify import verify
from carbontrack.ledger.window import Flag, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.query.price import together_of
from carbontrack.units import MS_PER_HOUR
from carbontrack.vocabulary import RunKind, Status
from tests.fixtures.command import Command
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.runs import START_MS, Recorded, recording_of

_MINUTE_MS = 60_000
_COUNTED = Flag.COUNTER
_USED, _ODD = Flag.COUNTER | Flag.USED, Flag.COUNTER | Flag.IMPLAUSIBLE


@dataclass(frozen=True)
class Read:
    """Devices of one sort in a recording, and what each hour of them has."""

    count: int = 2
    kind: str = "gpu"
    device: str = "NVIDIA A100-SXM4-80GB"
    rated_w: float | None = 400.0
    share: float = 1.0
    power_w: float = 300.0
    meter: str = "nvml"
    quality: str = "counter"
    flags: tuple[Flag, ...] = (_COUNTED,)  # by device
    known: float = 1.0  # share of the hours whose energy is known

    def sensors(self, host: str) -> list[Sensor]:
        of = Recorded(
            count=self.count,
            kind=self.kind,
            device=self.device,
            rated_w=self.rated_w,
            meter=self.meter,
            quality=self.quality,
            host=host,
        )
        return [
            replace(one, uuid=f"{self.kind}-{self.device}-{host}-{at}", share=self.share)
            for at, one in enumerate(of.sensors)
        ]

    def windows(self, host: str, from_ms: int, to_ms: int) -> Iterator[tuple[str, Window]]:
        for at, sensor in enumerate(self.sensors(host)):
            first_ms = from_ms // MS_PER_HOUR * MS_PER_HOUR
            for number, hour_ms in enumerate(range(first_ms, to_ms, MS_PER_HOUR)):
                length_ms = min(to_ms, hour_ms + MS_PER_HOUR) - max(from_ms, hour_ms)
                is_known = number % 10 < 10 * self.known
                power_w = self.power_w * self.share + at + number % 7 / 1000
                seconds = length_ms / 1000 if is_known else 0.0
                yield (
                    sensor.uuid,
                    Window(
                        start_ms=hour_ms,
                        level_s=3600,
                        energy_j=round(power_w * length_ms) / 1000 if is_known else None,
                        energy_s=seconds,
                        sampled_s=0.9 * length_ms / 1000,
                        samples=length_ms // 100,
                        power_min_w=power_w,
                        power_max_w=power_w,
                        vitals=1,
                        util_pct=97.0,
                        memory_max_bytes=2**30,
                        temperature_max_c=64.0,
                        sm_clock_mhz=1410.0,
                        throttle=0,
                        flags=self.flags[at % len(self.flags)],
                    ),
                )


@dataclass(frozen=True)
class Job:
    """A run: its recordings as (host, from and to in minutes, what it read)."""

    name: str
    recordings: Sequence[tuple[str, int, int, Sequence[Read]]]
    together: bool = True  # whether the server adds it up
    kind: RunKind = RunKind.JOB
    facility: dict[str, Any] = field(default_factory=dict)
    offset_ms: int = 0  # of the node's clock


_DAY = 24 * 60
_MIDNIGHT = 24 * 60 - START_MS // _MINUTE_MS % (24 * 60)  # after the start, in minutes, UTC
_GPUS, _CPU = Read(), Read(count=1, kind="cpu", device="EPYC", rated_w=None, meter="rapl")
_MIG, _OTHER = replace(_GPUS, share=3 / 7), replace(_GPUS, rated_w=300.0)
JOBS = (
    Job("plain", [("a", 30, 5 * 60 + 17, [_GPUS])]),
    Job("kinds", [("b", 90, 300, [_GPUS, _CPU, replace(_CPU, kind="dram", device="DDR")])]),
    Job("nodes", [("c", 10, 200, [_GPUS]), ("d", 11, 260, [_GPUS])]),
    Job("again", [("e", 0, 130, [_GPUS]), ("e", 131, 330, [_GPUS])]),
    Job("elsewhere", [("f", 0, 130, [_GPUS]), ("g", 131, 330, [_GPUS])]),
    Job("mig", [("h", 20, 200, [_MIG])]),
    Job("shares", [("i", 20, 200, [_MIG, replace(_GPUS, device="other")])], False),
    Job("mixed", [("j", 20, 200, [_GPUS, replace(_GPUS, device="NVIDIA H100 80GB HBM3")])], False),
    Job("hosts", [("k", 20, 200, [_GPUS]), ("l", 20, 200, [_OTHER])], False),
    Job("hot", [("m", 20, 200, [replace(_GPUS, power_w=480.0)])], False),
    Job("odd", [("n", 20, 200, [replace(_GPUS, flags=(_COUNTED, _ODD))])], False),
    Job("idle", [("o", 20, 200, [replace(_GPUS, flags=(_USED, _COUNTED))])], False),
    Job("used", [("p", 20, 200, [replace(_GPUS, flags=(_USED,))])]),
    Job("twice", [("q", 20, 200, [_GPUS]), ("q", 100, 260, [_GPUS])], False),
    Job("unknown", [("r", 0, 20 * 60, [replace(_GPUS, known=0.5)])]),
    Job("never", [("s", 0, 200, [replace(_GPUS, known=0.0)])]),
    Job("nothing", [("t", 0, 200, [])]),
    Job("simulated", [("u", 0, 200, [replace(_GPUS, meter="sim", quality="simulated")])]),
    Job("beside", [("a", 100, 220, [_GPUS])]),  # of what "plain" reads
    Job("watch", [("a", 0, 400, [_GPUS])], kind=RunKind.WATCH),
    Job("months", [("v", 40 * 60, 80 * 60 + 5, [_GPUS])]),
    Job("pause", [("w", 0, 60, [_GPUS]), ("w", 120 * _DAY, 120 * _DAY + 60, [_GPUS])]),
    Job("moved", [("one", 40 * 60, 43 * 60, [_GPUS]), ("other", 77 * 60, 80 * 60, [_GPUS])]),
    Job("zone", [("x", 15, 400, [_GPUS])], facility={"zone": "FRA", "pue": 1.2, "tariff": 0.3}),
    Job("clock", [("z", 5, 200, [_GPUS])], False, offset_ms=90_000),
    Job("gone", [("y", 15, 400, [_GPUS])]),
)  # fmt: skip


def write(url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        for number, job in enumerate(JOBS, start=1):
            _write(ledger, number, job)
        with ledger.begin() as transaction:
            keys = [row["key"] for row in transaction.ask("select key from recordings", {})]
        kept_overlaps.keep(ledger, keys)


def _write(ledger: WritableLedger, number: int, job: Job) -> None:
    begins_ms = START_MS + min(begin for _, begin, _, _ in job.recordings) * _MINUTE_MS
    of = Recorded(number=number, name=job.name, project=("nlp", "vision", None)[number % 3])
    run = replace(of.begun, kind=job.kind, started_ms=begins_ms, facility=job.facility)
    for place, (host, begin, end, read_by) in enumerate(job.recordings):
        from_ms, to_ms = START_MS + begin * _MINUTE_MS, START_MS + end * _MINUTE_MS
        recording = recording_of(
            run,
            f"{host} {place}",
            started_ms=from_ms,
            heartbeat_ms=to_ms,
            ended_ms=to_ms,
            status=Status.COMPLETED,
            exit_code=0,
        )
        recording = replace(recording, host=host)
        sensors = [sensor for one in read_by for sensor in one.sensors(host)]
        windows = [row for one in read_by for row in one.windows(host, from_ms, to_ms)]
        RunWriter(ledger, run, recording, sensors).commit(windows=windows, heartbeat_ms=to_ms)
        if job.offset_ms:
            with ledger.begin() as transaction:
                asked = "select key from recordings where id = :id"
                (row,) = transaction.ask(asked, {"id": recording.id})
                off = CLOCKS.written(
                    ClockOffset(from_ms, job.offset_ms, 10), recording_key=row["key"]
                )
                transaction.write(CLOCKS.upsert, [off])


def written(folder: Path, server: PostgresServer) -> list[str]:
    """The URLs of the same ledger in a file and on a server."""
    found = [url_of(str(folder / "ledger.db")), url_of(server.new_database())]
    for url in found:
        write(url)
    return found


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> list[str]:
    """Of ledgers that all tests read and none changes."""
    return written(tmp_path_factory.mktemp("sums"), postgres_server)


def _span(from_min: int, to_min: int) -> list[str]:
    times = [
        datetime.fromtimestamp((START_MS + at * _MINUTE_MS) / 1000, UTC).isoformat()
        for at in (from_min, to_min)
    ]
    return ["--since", times[0], "--until", times[1]]


_TABLES: Sequence[Sequence[str]] = [
    ["--method", "measured,report", "--lost"],
    ["--method", "measured,report", "--embodied", *_span(60, 240)],  # in the middle of most
    ["--by", "project", *_span(95, 245)],  # edges inside hours
    ["--by", "month", "--by", "project"],
    ["--by", "month", "--by", "host", *_span(2400, 4320)],
    ["--by", "name", *_span(_MIDNIGHT, _MIDNIGHT + 3 * _DAY)],  # whole days
    ["--by", "name", *_span(_MIDNIGHT + 1110, _MIDNIGHT + 2 * _DAY + 1110)],  # of India
    ["--by", "name", *_span(_MIDNIGHT + 2 * _DAY + 60, _MIDNIGHT + 2 * _DAY + 360)],  # in one
]
_AGAIN = [*_TABLES[1:4], *_TABLES[5:7]]


def tables(command: Command, url: str, asked: Sequence[Sequence[str]]) -> list[Any]:
    return [command("table", "--db", url, *words, "--format", "json").json for words in asked]


def same(found: Any, wanted: Any) -> None:
    """Text is equal, numbers to the last digits: floats are added up in another order."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            same(found[key], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    else:
        assert found == wanted


def test_tables_are_those_of_adding_up_device_by_device(command: Command, urls: list[str]) -> None:
    in_file, on_server = urls
    same(tables(command, on_server, _TABLES), tables(command, in_file, _TABLES))


def test_a_month_has_the_devices_and_nodes_that_were_recorded_in_it(
    command: Command, urls: list[str]
) -> None:
    for url in urls:
        asked = ("table", "moved", "--db", url, "--format", "json", "--by", "month")
        months = command(*asked).json["rows"]
        assert [(row["nodes"], row["devices"]) for row in months] == [(1, 2), (1, 2)]
        hosts = command(*asked, "--by", "host").json["rows"]
        assert [tuple(row["group"].values()) for row in hosts] == [
            ("2026-05", "one"), ("2026-06", "other"),
        ]  # fmt: skip


def test_the_list_of_runs_is_that_of_adding_up_device_by_device(
    command: Command, urls: list[str]
) -> None:
    in_file, on_server = (
        command("runs", "--db", url, "-n", f"{len(JOBS)}", "--format", "json").json for url in urls
    )
    same(on_server, in_file)
    assert len(in_file["runs"]) == len(JOBS)


def test_the_server_adds_up_all_but_what_must_be_looked_at(urls: list[str]) -> None:
    in_file, on_server = urls
    with engine.open_reader(on_server).connect() as connection:
        runs = read.list_runs(connection)
        held = Held(connection, runs)
        together = {run.name for run in runs if together_of(held, run) is not None}
    assert together == {job.name for job in JOBS if job.together}
    with engine.open_reader(in_file).connect() as connection:
        runs = read.list_runs(connection)
        held = Held(connection, runs)
        assert not any(together_of(held, run) for run in runs)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first_h=st.integers(-30, 90), hours=st.integers(1, 100))
def test_what_is_in_a_span_is_the_sum_of_its_hours(
    urls: list[str], first_h: int, hours: int
) -> None:
    from_ms = START_MS + first_h * MS_PER_HOUR
    span = from_ms, from_ms + hours * MS_PER_HOUR
    asked = text(
        "select run_key, sum(energy_j), sum(energy_s), sum(sampled_s) from hours "
        "join recordings on recordings.key = recording_key "
        "where hours.start_ms >= :from_ms and hours.start_ms < :to_ms group by 1"
    )
    with engine.open_reader(urls[1]).connect() as connection:
        values = dict(zip(("from_ms", "to_ms"), span, strict=True))
        wanted = {key: sums for key, *sums in connection.execute(asked, values)}
        sums = DeviceSums(connection, read.list_runs(connection), span)
        for run in read.list_runs(connection):
            found = sums.of(run, span)
            if found is None:  # of devices that are not alike
                continue
            alike = found.devices.alike
            for place, name in enumerate(("energy_j", "energy_s", "sampled_s")):
                of_run = sum(getattr(one, name) or 0.0 for one in alike)
                own = wanted.get(run.key, (0.0, 0.0, 0.0))[place] or 0.0
                assert of_run == pytest.approx(own, rel=1e-12), (run.name, name)


def test_they_are_the_same_after_hours_were_written_again_and_runs_removed(
    command: Command, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    urls = written(tmp_path, postgres_server)
    _, on_server = urls
    before = command("table", "--db", on_server, "plain", "--format", "json").json
    for url in urls:
        _change(url)
        remove.remove(url, [_named(url, "gone")])
    found_in_file, found_on_server = (tables(command, url, _AGAIN) for url in urls)
    same(found_on_server, found_in_file)
    after = command("table", "--db", urls[1], "plain", "--format", "json").json
    changed_j = 3_600_000 * (after["total"]["energy_kwh"] - before["total"]["energy_kwh"])
    assert changed_j == pytest.approx(2 * 0.125 * 6, abs=1e-6), "two devices in six hours"
    with closing(open_ledger(urls[1])) as ledger:
        roll_hours(ledger)
    same(tables(command, urls[1], _AGAIN), found_in_file)
    assert verify(urls[1]) == []


def _change(url: str) -> None:
    """Write each hour of some recordings again."""
    with engine.writing(url) as writer, writer.begin() as connection:
        hours = "hours" if connection.dialect.name == "postgresql" else "windows"
        connection.execute(
            text(
                f"update {hours} set energy_j = energy_j + 0.125 where recording_key in "
                "(select recordings.key from recordings join runs on runs.key = run_key "
                "where runs.name in ('plain', 'nodes', 'months'))"
            )
        )


def _named(url: str, name: str) -> Run:
    with engine.open_reader(url).connect() as connection:
        return read.resolve_run(connection, name)


def test_sensors_that_are_described_again_are_added_up_anew(urls: list[str]) -> None:
    with engine.writing(urls[1]) as writer, writer.connect() as connection:
        asked = text(
            "select kind, is_alike, limit_w, cardinality(device_keys) as devices "
            "from recorded_devices where recording_key = 1"
        )
        connection.execute(text("update sensors set power_limit_w = 350 where recording_key = 1"))
        connection.execute(text("update sensors set rated_power_w = 300 where recording_key = 1"))
        assert connection.execute(asked).one() == ("gpu", True, 350.0, 2)
        connection.execute(text("update sensors set meter = 'other' where key = 1"))
        assert connection.execute(asked).one().is_alike is False
        connection.execute(text("delete from hours where sensor_key = 1"))
        connection.execute(text("delete from sensors where key = 1"))
        assert connection.execute(asked).one() == ("gpu", True, 350.0, 1)
        connection.execute(text("delete from recordings where key = 1"))
        assert connection.execute(asked).all() == []
        connection.rollback()
