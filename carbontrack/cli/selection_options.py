"""The options that select runs: one set, the same for every command that takes several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from carbontrack.cli import parse
from carbontrack.cli.common import option, takes
from carbontrack.query.select import Selection
from carbontrack.record.labels import tag_of
from carbontrack.vocabulary import Quality, Status

_PANEL = "Which runs"


def _option(
    name: str, help: str, *other: str, metavar: str | None = None, kind: Any = str | None
) -> Any:
    return option(name, kind, help, *other, metavar=metavar, panel=_PANEL)


_OPTIONS = {
    one.name: one
    for one in (
        _option("project", "Only runs of this project."),
        _option(
            "tag",
            "Only with this tag; of several, with all.",
            metavar="KEY=VALUE",
            kind=list[str] | None,
        ),
        _option(
            "since",
            "Only those that ran since 2026-01-31, yesterday, 2026-01, last-month, 2026, the last "
            "12h or 7d; of one that began earlier a table counts what it used since.",
            metavar="WHEN",
        ),
        _option(
            "until",
            "Only those that ran up to the end of such a day, month or year, or before a time or "
            "an age; of one that went on a table counts what it used until then.",
            metavar="WHEN",
        ),
        _option("user", "Only of this user."),
        _option("host", "Only on this host, perhaps beside others."),
        _option("account", "Only of this account of the scheduler."),
        _option("partition", "Only in this partition or queue."),
        _option("cluster", "Only on this cluster."),
        _option("job", "Only of the scheduler's job with this id.", metavar="ID"),
        _option("status", f"{', '.join(Status)}.", "--only"),
        _option("quality", f"Only with energy by {', '.join(Quality)}."),
    )
}


def takes_selection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all of these options. It gets them, checked, as `wanted`."""
    return takes(command, _OPTIONS, _selection, "wanted")


def _selection(
    *, tag: list[str] | None, since: str | None, until: str | None, **words: Any
) -> Selection:
    parse.check_choice("--status", words["status"], (None, *Status))
    parse.check_choice("--quality", words["quality"], (None, *Quality))
    since_ms, until_ms = parse.range_ms(since, until)
    tags = tuple(map(tag_of, tag or []))
    return Selection(tags=tags, since_ms=since_ms, until_ms=until_ms, **words)
