"""What a run and its project can be called. Standard library only."""

from __future__ import annotations

from carbontrack.errors import CarbontrackError

LAST = "last"
"""Means the newest run, wherever a run is named."""


def check_name(name: str | None) -> None:
    """Raises CarbontrackError for a name that no run can have."""
    if name is not None and (not name.strip() or name == LAST):
        why = "is reserved" if name == LAST else "is empty"
        raise CarbontrackError(
            f"--name {name!r} {why}.", hint="Give another, or none for the script's."
        )


def check_project(project: str | None) -> None:
    """Raises CarbontrackError for a blank one; an empty one means none."""
    if project and not project.strip():
        raise CarbontrackError(f"--project {project!r} is empty.", hint="Give its name, or none.")
