"""Whether the tables have factors for the zone, the provider and the day of a run, as soon as it
starts: a name that is mistyped is else found when a report is read, of a run that may have taken
weeks.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.keys import LOOKED_UP_BY
from carbontrack.ledger.sqlite import connect
from carbontrack.ledger.url import sqlite_path
from carbontrack.vocabulary import Method


def unknown_place(settings: config.Settings, url: str) -> str:
    """What of the place of a run for the ledger at `url` is unknown, and what to do about it; empty
    where all is known, or may have been imported into the ledger of a server.
    """
    if settings.keys().isdisjoint(LOOKED_UP_BY):
        return ""
    from carbontrack.factors.resolve import resolve

    zone = config.value(settings, "zone")
    if zone is not None and _is_imported(zone, url):
        settings = {**settings, "intensity": config.Setting(0.0, "imported")}  # no table is asked
    try:
        resolve(settings, method=Method.MEASURED)
    except CarbontrackError as error:
        return (
            f"{error.what} Reports have neither CO₂e nor cost of this run until 'carbontrack "
            f"amend' corrects it. {error.hint}"
        )
    return ""


def _is_imported(zone: str, url: str) -> bool:
    """Whether the ledger has intensities of this zone, or may have: a server is not asked."""
    path = sqlite_path(url)
    if path is None:
        return True
    try:
        with closing(connect(path, busy_timeout_ms=0, read_only=True)) as connection:
            asked = "select 1 from intensity where zone = ? limit 1"
            return connection.execute(asked, (zone,)).fetchone() is not None
    except (sqlite3.Error, CarbontrackError):
        return False  # there is no ledger yet, or this is none
