"""The pictures that the figures are compared with. Draw them anew after a change that was meant,
and look at them before they go in: python -m tests.assets.figures.draw
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from carbontrack.ledger.url import ledger_url
from dashboards import figures
from dashboards.data import RunData
from tests.fixtures import pictures
from tests.fixtures.runs import Recorded

FOLDER = Path(__file__).parent
_DPI = 60


def runs(ledger: Path) -> list[RunData]:
    """Two runs of eight devices, the second with a gap."""
    url = ledger_url(str(ledger))
    pictures.write_seconds(url, Recorded(name="large", number=1, seconds=120))
    pictures.write_seconds(url, Recorded(name="small", number=2, count=2, seconds=90), gap=True)
    return [pictures.load(url, "large"), pictures.load(url, "small")]


def write(kind: str, drawn_from: Sequence[RunData], folder: Path) -> Path:
    """Draw the runs, or the first of them where the figure takes one."""
    several = kind in figures.SEVERAL
    figure = figures.draw(kind, drawn_from if several else drawn_from[:1])
    path = folder / f"{kind}.png"
    figure.savefig(path, dpi=_DPI)
    return path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = runs(Path(scratch) / "ledger.db")
    for each in figures.KINDS:
        print(write(each, made, FOLDER))
