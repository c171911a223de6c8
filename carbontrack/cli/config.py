"""`carbontrack config`: each setting, its value, and where it came from."""

from __future__ import annotations

from carbontrack.cli.common import FormatOption
from carbontrack.vocabulary import Format, TableFormat


def config(format: FormatOption = Format.TEXT) -> None:
    """Show the settings of the facility with their origin: environment, project file, user file.

    Set them in carbontrack.toml, in the table tool.carbontrack of pyproject.toml, in the user's
    config.toml, or by environment variables CARBONTRACK_PUE, CARBONTRACK_ZONE, …
    """
    from carbontrack.report import render
    from carbontrack.report.config import settings_table

    as_table = TableFormat.JSON if format is Format.JSON else TableFormat.TEXT
    render.show_table(*settings_table(), as_table)
