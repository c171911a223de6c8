"""What people can call a run, and write of it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

from carbontrack.errors import CarbontrackError

LAST = "last"
"""Means the newest run, wherever a run is named."""

MAX_TEXT_CHARS = 4096
"""Of one text that a job or a person writes: a longer one is cut, or refused."""


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


def check_lengths(texts: Mapping[str, str | None]) -> None:
    """Raises CarbontrackError for a text that no ledger takes; `texts` are by what they are."""
    for what, text in texts.items():
        if text is not None and len(text) > MAX_TEXT_CHARS:
            raise CarbontrackError(
                f"the {what} has {len(text):,} characters, and may have {MAX_TEXT_CHARS:,}.",
                hint="Shorten it, or name a file that has all of it.",
            )
