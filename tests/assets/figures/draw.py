"""The pictures that the figures are compared with. Draw them anew after a change that was meant,
and look at them before they go in: python -m tests.assets.figures.draw
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from carbontrack.ledger.url import ledger_url
from dashboards import figures
from dashboards.data import RunData
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded

FOLDER = Path(__file__).parent
_DPI = 130


def runs(ledger: Path) -> list[RunData]:
    """Two runs of eight devices and two, the second with a gap; and one of 30 hours, from 5:00
    UTC on, whose grid gets cleaner by day.
    """
    url = ledger_url(str(ledger))
    pictures.write_seconds(url, Recorded(name="large", number=1, seconds=120))
    pictures.write_seconds(url, Recorded(name="small", number=2, count=2, seconds=90), gap=True)
    day = Recorded(name="day", number=3, count=2, seconds=30 * 3600, steps=200)
    pictures.write_hours(url, day)
    grid = [0.35 - 0.2 * math.sin(math.pi * hour / 24) ** 2 for hour in range(31)]
    pictures.import_hours(url, "DEU", day.start_ms, grid)
    pair = [pictures.load(url, "large"), pictures.load(url, "small")]
    return [*pair, pictures.load(url, "day", pue=1.5, zone="DEU")]


def write(kind: str, drawn_from: Sequence[RunData], folder: Path) -> Path:
    """Draw the two runs, or the one that the figure shows best."""
    *pair, day = drawn_from
    of_one = [day] if kind == "carbon-by-hour" else pair[:1]
    figure = figures.draw(kind, pair if kind in figures.SEVERAL else of_one)
    path = folder / f"{kind}.png"
    figure.savefig(path, dpi=_DPI)
    return path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = runs(Path(scratch) / "ledger.db")
    for each in figures.KINDS:
        print(write(each, made, FOLDER))
