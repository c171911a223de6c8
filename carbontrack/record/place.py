"""Whether the zone and the provider of a run are known, as soon as it starts: a name that is
mistyped is else found when a report is read, of a run that may have taken weeks.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.sqlite import connect
from carbontrack.ledger.url import sqlite_path


def unknown_place(settings: config.Settings, url: str) -> str:
    """What of the place of a run for the ledger at `url` is unknown, and what to do about it; empty
    where all is known, or may have been imported into the ledger of a server.
    """
    zone, provider = config.value(settings, "zone"), config.value(settings, "provider")
    if zone is None and provider is None:
        return ""
    from carbontrack.factors import catalog

    try:
        if zone is not None and "intensity" not in settings and not _is_imported(zone, url):
            catalog.intensity(zone)
        if provider is not None and "pue" not in settings:
            catalog.pue(provider)
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
