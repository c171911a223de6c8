"""Where our processes look for modules: the job's own folders come last.

A training repository may hold a `statistics.py` or a `dashboards` folder and name itself in
PYTHONPATH. Ours must win, and yet a cluster's module system may have put our dependencies, or
ourselves, into PYTHONPATH too: so its folders are searched, after all others.
"""

from __future__ import annotations

import os
import sys

_HANDED_ON = "CARBONTRACK_SEARCH_PATH"
# What says where Python and its packages are; any other of its variables is meant for the job.
_LOCATIONS = {
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "PYTHONNOUSERSITE",
    "PYTHONPLATLIBDIR",
    "PYTHONEXECUTABLE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONDONTWRITEBYTECODE",
}
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - 8 ms
_JOBS = [
    os.path.abspath(entry)  # noqa: PTH100
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if entry
]
# The folder that Python itself puts first: the working folder under -m, else the script's.
_FIRST = [] if sys.flags.safe_path else sys.path[:1]
_INSTALLED = [entry for entry in sys.path if entry not in _JOBS and entry not in _FIRST]


def put_jobs_folders_last() -> None:
    """Search the working folder and PYTHONPATH after the standard library and what is installed."""
    ours = [] if _OURS in _INSTALLED else [_OURS]
    sys.path[:] = [*_INSTALLED, *ours, *(e for e in [*_FIRST, *_JOBS] if e != _OURS)]


def take_handed_on() -> None:
    """In a process started with `own_environment`: search the job's folders, too, last of all."""
    put_jobs_folders_last()
    handed_on = os.environ.pop(_HANDED_ON, "").split(os.pathsep)
    sys.path += [entry for entry in handed_on if entry and entry not in sys.path]


def own_environment() -> dict[str, str]:
    """The environment without Python's variables that are meant for the job."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name in _LOCATIONS
    }
    if _JOBS:
        environ[_HANDED_ON] = os.pathsep.join(_JOBS)
    if _OURS not in _INSTALLED:
        environ["PYTHONPATH"] = _OURS
    return environ
