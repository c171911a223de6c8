"""Amendments in words and as JSON: who said what of a run, when, and what was said before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from carbontrack.ledger.amended import undoings
from carbontrack.ledger.recorded_rows import Amendment
from carbontrack.report.numbers import iso_time
from carbontrack.units import MS_PER_S
from carbontrack.vocabulary import AmendedField


def change_text(amendment: Amendment) -> str:
    """project from none to 'nlp'."""
    field = amendment.field.replace("_", " ")
    return f"{field} from {_value(amendment.before)} to {_value(amendment.after)}"


def amendment_texts(amendments: Sequence[Amendment]) -> list[str]:
    """A line each, in their order."""
    undone, by_id = undoings(amendments), {one.id: one for one in amendments}

    def text(one: Amendment) -> str:
        if one.field != AmendedField.UNDO:
            return f"{change_text(one)}, {_who(one)}{', undone' if one.id in undone else ''}"
        what = by_id.get(str(one.after))
        return f"undone: {change_text(what) if what else one.after}, {_who(one)}"

    return [text(one) for one in amendments]


def amendments_data(amendments: Sequence[Amendment]) -> list[dict[str, Any]]:
    """The same for programs."""
    undone = undoings(amendments)
    return [
        {**asdict(one), "time": iso_time(one.time_ms), "undone": one.id in undone, "text": text}
        for one, text in zip(amendments, amendment_texts(amendments), strict=True)
    ]


def _who(amendment: Amendment) -> str:
    time = datetime.fromtimestamp(amendment.time_ms / MS_PER_S, UTC)
    return f"by {amendment.user} on {time:%Y-%m-%d %H:%M:%SZ}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, (int, float)) else repr(value)
