"""What does shipping add to the memory of a recorder?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.processes import peak_mib, watchers
from benchmarks.table import Table
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.window import Pyramid, Window
from carbontrack.ledger.write import RunWriter
from carbontrack.units import MS_PER_HOUR, MS_PER_S, now_ms
from tests.fixtures.runs import Recorded, recording_of

_DEVICES = 8
_AT_ONCE_S = 600


def memory(folder: Path, address: str, token: str, project: str, *, quick: bool) -> Table:
    """Of two recorders side by side, of which one ships what it records and a backlog."""
    backlog_s, seconds = (600, 15.0) if quick else (3 * 3600, 75.0)
    recorded = Recorded(name="backlog", count=_DEVICES, project=project)
    ships = ("--ship", address)
    with (
        _recording(folder / "alone", recorded, backlog_s) as alone,
        _recording(folder / "ships", recorded, backlog_s, *ships, token=token) as shipping,
    ):
        time.sleep(seconds)
        alone_mib, ships_mib = (
            max(map(peak_mib, watchers(job.pid, without=0))) for job in (alone, shipping)
        )
    return Table(
        title="A recorder that ships",
        how=f"{_DEVICES} simulated A100s for {seconds:g} s, after {backlog_s / 3600:.2g} h of a "
        "run that nothing was shipped of; the largest resident set of the recorder (VmHWM), beside "
        "one that does not ship. Over HTTP: TLS adds OpenSSL.",
        columns=["", "alone", "ships", "more"],
        rows=[
            [
                "peak memory of the recorder, MiB",
                f"{alone_mib:.1f}",
                f"{ships_mib:.1f}",
                f"{ships_mib - alone_mib:.1f}",
            ]
        ],
        raw={"alone_mib": alone_mib, "ships_mib": ships_mib},
    )


@contextmanager
def _recording(
    folder: Path, recorded: Recorded, backlog_s: int, *options: str, token: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A job that is recorded until the block ends, into a ledger with a backlog."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'ledger.db'}"
    _write(url, recorded, backlog_s)
    env = {**os.environ, "CARBONTRACK_DB": url, "CARBONTRACK_SHIP_TOKEN": token}
    command = [sys.executable, "-m", "carbontrack", "run", "--quiet", "--meter", "sim:a100x8"]
    with subprocess.Popen([*command, *options, "--", "cat"], env=env, stdin=subprocess.PIPE) as job:
        try:
            yield job
        finally:
            assert job.stdin is not None
            job.stdin.close()


def _write(url: str, recorded: Recorded, seconds: int) -> None:
    begin_ms = (now_ms() // MS_PER_HOUR - 1) * MS_PER_HOUR - seconds * MS_PER_S
    _, hour = recorded.windows[0]
    run = replace(recorded.begun, started_ms=begin_ms)
    recording = replace(recording_of(run), started_ms=begin_ms, heartbeat_ms=begin_ms)
    pyramids = {sensor.uuid: Pyramid() for sensor in recorded.sensors}
    with closing(open_ledger(url)) as ledger:
        writer = RunWriter(ledger, run, recording, recorded.sensors)
        for first in range(0, seconds, _AT_ONCE_S):
            rows: list[tuple[str, Window]] = []
            for uuid, pyramid in pyramids.items():
                for number in range(first, first + _AT_ONCE_S):
                    start_ms = begin_ms + number * MS_PER_S
                    one = replace(hour, level_s=1, start_ms=start_ms, energy_s=1.0, sampled_s=1.0)
                    second = replace(one, energy_j=400.0, samples=10)
                    pyramid.add(second)
                    rows.append((uuid, second))
                rows += [(uuid, window) for window in pyramid.take_changed()]
            end_ms = begin_ms + (first + _AT_ONCE_S) * MS_PER_S
            writer.commit(windows=rows, heartbeat_ms=end_ms)
        ended_ms = begin_ms + seconds * MS_PER_S
        writer.finish(status=recorded.status, exit_code=0, ended_ms=ended_ms)
