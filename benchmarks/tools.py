"""The tools that are compared: how each wraps a command, and the GPU energy that it wrote down."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from carbontrack.units import J_PER_KWH


@dataclass(frozen=True)
class Tool:
    """`argv` and `energy_j` are given a folder of the run's own, which is its working directory."""

    name: str
    package: str
    python: Path
    argv: Callable[[Path, list[str]], list[str]]
    energy_j: Callable[[Path], float | None]  # None: it wrote none

    def environ(self, around: Mapping[str, str], folder: Path) -> dict[str, str]:
        """The environment of the wrapped run: nothing of another run's, no way to the network; but
        as patient as we are.
        """
        ours = {name for name in around if name.startswith("CARBONTRACK_")}
        clean = {k: v for k, v in around.items() if k not in ours - {"CARBONTRACK_GRACE_S"}}
        return {
            **clean,
            "CARBONTRACK_DB": str(folder / "ledger.db"),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_CACHE_HOME": str(folder),
            "TRACKIO_DIR": str(folder / "trackio"),
            "HF_HUB_OFFLINE": "1",
        }


def tools(peers: Path | None) -> list[Tool]:
    """carbontrack first; the peers where their environment is."""
    here = Path(sys.executable).parent
    found = [Tool("carbontrack", "carbontrack", Path(sys.executable), _ours(here), _our_energy)]
    if peers is None:
        return found
    python = peers / "bin" / "python"
    return [
        *found,
        Tool("CodeCarbon", "codecarbon", python, _codecarbon(peers), _codecarbon_energy),
        Tool("carbontracker", "carbontracker", python, _carbontracker(peers), _mean_times_time),
        Tool("Zeus", "zeus", python, _zeus(python), _zeus_energy),
        Tool("Trackio", "trackio", python, _trackio(python), _trackio_energy),
    ]


def version(tool: Tool) -> str:
    """The installed version of a tool's package."""
    code = f"from importlib.metadata import version; print(version({tool.package!r}))"
    done = subprocess.run([tool.python, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


Argv = Callable[[Path, list[str]], list[str]]


def _ours(here: Path) -> Argv:
    return lambda folder, command: [str(here / "carbontrack"), "run", "--", *command]


def _our_energy(folder: Path) -> float | None:
    if not (folder / "ledger.db").exists():
        return None
    show = [sys.executable, "-m", "carbontrack", "show", "--format", "json", "--db", "ledger.db"]
    done = subprocess.run(show, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        return None
    devices = [d for d in json.loads(done.stdout)["devices"] if d["kind"] in ("gpu", "mig")]
    known = [d["energy_kwh"] for d in devices if d["energy_kwh"] is not None]
    return sum(known) * J_PER_KWH if known else None


def _codecarbon(peers: Path) -> Argv:
    options = ["monitor", "--offline", "--country-iso-code", "USA", "--"]
    return lambda folder, command: [str(peers / "bin" / "codecarbon"), *options, *command]


def _codecarbon_energy(folder: Path) -> float | None:
    path = folder / "emissions.csv"
    if not path.exists():
        return None
    with path.open() as file:
        return float(list(csv.DictReader(file))[-1]["gpu_energy"]) * J_PER_KWH


def _carbontracker(peers: Path) -> Argv:
    return lambda folder, command: [str(peers / "bin" / "carbontracker"), *command]


def _mean_times_time(folder: Path) -> float | None:
    """Its log has the mean power of the epoch and its duration; the total adds CPU and PUE."""
    for log in (folder / "logs").glob("*_carbontracker.log"):
        text = log.read_text()
        power = re.search(r"Average power usage \(W\) for gpu: ([0-9.]+)", text)
        took = re.search(r"Duration: ([0-9]+):([0-9]+):([0-9.]+)", text)
        if power and took:
            hours, minutes, seconds = (float(part) for part in took.groups())
            return float(power[1]) * (3600 * hours + 60 * minutes + seconds)
    return None


def _zeus(python: Path) -> Argv:
    script = str(Path(__file__).with_name("zeus_window.py"))
    return lambda folder, command: [str(python), script, str(folder / "zeus.json"), *command]


def _zeus_energy(folder: Path) -> float | None:
    path = folder / "zeus.json"
    return sum(json.loads(path.read_text()).values()) if path.exists() else None


def _trackio(python: Path) -> Argv:
    script = str(Path(__file__).with_name("trackio_run.py"))
    return lambda folder, command: [str(python), script, *command]


def _trackio_energy(folder: Path) -> float | None:
    """Of each GPU the last of its readings, which count from the first."""
    path = folder / "trackio" / "bench.db"
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as database:
        rows = [
            json.loads(row) for (row,) in database.execute("select metrics from system_metrics")
        ]
    energy_j = {
        name: joule
        for row in rows
        for name, joule in row.items()
        if name.endswith("energy_consumed")
    }
    return sum(energy_j.values()) if energy_j else None
