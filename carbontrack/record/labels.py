"""The project and the tags of a run: what is given, else what the environment says.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from carbontrack.errors import CarbontrackError
from carbontrack.record.warning import warn

_PROJECT, _TAGS = "CARBONTRACK_PROJECT", "CARBONTRACK_TAGS"


def project_of(given: str | None) -> str | None:
    """The project that is given, else that of the environment; None if neither names one."""
    known = (given, os.environ.get(_PROJECT))
    return next((name for name in known if name and name.strip()), None)


def tags_of(given: Mapping[str, str]) -> dict[str, str]:
    """The tags of the environment (team=nlp,seed=3) and those that are given, which win.

    A word of the environment that is no tag is left out with a warning: no job fails by it.
    """
    tags = {}
    for word in filter(None, map(str.strip, os.environ.get(_TAGS, "").split(","))):
        try:
            key, value = tag_of(word)
        except CarbontrackError:
            warn(f"{_TAGS}: {word!r} is not KEY=VALUE and is left out.")
        else:
            tags[key] = value
    return {**tags, **given}


def tag_of(word: str, where: str = "--tag", example: str = "--tag team=nlp") -> tuple[str, str]:
    """KEY=VALUE as a pair. Raises CarbontrackError, which says `where` it stands, for anything
    else.
    """
    key, equals, value = word.partition("=")
    if not equals or not key.strip() or (value and not value.strip()):
        raise CarbontrackError(f"{where} {word}: not KEY=VALUE.", hint=f"Example: {example}.")
    return key, value
