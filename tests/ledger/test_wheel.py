"""What is installed from the wheel brings its migrations, and upgrades ledgers by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked: a folder with the packages as pip would lay them down."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_migration_is_in_the_wheel(installed: Path) -> None:
    def scripts(root: Path) -> list[str]:
        files = (root / "carbontrack/ledger/migrations").rglob("*.*")
        return sorted(str(file.relative_to(root)) for file in files if file.suffix != ".pyc")

    assert scripts(installed) == scripts(ROOT)
    assert len(scripts(installed)) >= 4


@pytest.mark.parametrize("by", ["its schema", "its migrations"])
def test_an_installed_wheel_makes_its_ledger(installed: Path, tmp_path: Path, by: str) -> None:
    ledger = tmp_path / "ledger.db"
    opened = {"its schema": "transaction.open_ledger(url).close()"}
    code = (
        "import sys, carbontrack\n"
        "from carbontrack.ledger import engine, transaction\n"
        "url = engine.ledger_url(sys.argv[1])\n"
        f"{opened.get(by, 'engine.open_writer(url).dispose()')}\n"
        "with engine.open_reader(url).connect() as connection:\n"
        "    print(carbontrack.__file__, engine.revision_of(connection, url), engine.HEAD)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ledger],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, revision, head = done.stdout.split()
    assert Path(where).is_relative_to(installed)
    assert revision == head
