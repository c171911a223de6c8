"""Thirty-five days of eight GPUs: drawn from the pyramid, and in little memory.

How soon that is, `benchmarks/dashboards.py` measures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from carbontrack.ledger.url import ledger_url
from dashboards import figures
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded

_DAYS_35 = Recorded(count=8, seconds=35 * 86_400, steps=500_000)
_PEAK = """
import sys
from pathlib import Path
from dashboards import data, figures, style
style.save(figures.overview(data.open_run("last", db=sys.argv[1])), Path(sys.argv[2]))
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def test_it_takes_hours_for_seconds_and_little_memory(tmp_path: Path) -> None:
    ledger, picture = tmp_path / "ledger.db", tmp_path / "a.png"
    url = ledger_url(str(ledger))
    pictures.write_hours(url, _DAYS_35)
    run = pictures.load(url)
    figures.overview(run).savefig(tmp_path / "b.png")
    assert run.level_s == 3600
    assert len(run.power) == 8 * 35 * 24
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(ledger), str(picture)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert picture.stat().st_size > 0
    assert int(done.stdout) / 1024 < 300, "MiB"
