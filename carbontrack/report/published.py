"""Published tables beside their recomputation, as tables for people and as data for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from carbontrack.account import published
from carbontrack.account.published import Figure, PublishedRow
from carbontrack.report.numbers import NO_VALUE, hours_text
from carbontrack.report.table import Column, Table
from carbontrack.vocabulary import Reproduction

_WHOLE = {"PUE yes in MWh": "MWh after PUE", "PUE no in MWh": "MWh before PUE"}


def listing() -> tuple[Table, dict[str, Any]]:
    """The names of the tables, with how many rows each has and how many reproduce."""
    reports = [_count(name, published.rows_of(name)) for name in published.names()]
    table = Table(
        (
            Column("report", "", tuple(r["name"] for r in reports), left=True),
            Column("rows", "", tuple(str(r["rows"]) for r in reports)),
            Column("reproduce", "", tuple(str(r["reproduce"]) for r in reports)),
            Column("source", "", tuple(r["source"] for r in reports), left=True),
        ),
        has_total=False,
        notes=("recompute one: carbontrack table --published 'Llama 2'",),
    )
    return table, {"published": reports}


def summary() -> tuple[Table, dict[str, Any]]:
    """How many rows reproduce, by whether their factors were stated, assumed or fitted."""
    rows = published.all_rows()
    origins = ("stated", "stated from memory", "assumed", "fitted", "")
    heads = ("stated", "from memory", "assumed", "fitted", "no factors")
    counted = {
        status: [sum(r.status is status and r.factors == o for r in rows) for o in origins]
        for status in Reproduction
    }
    columns = [
        Column(
            "figures follow", "", tuple(status.value for status in Reproduction), "rows", left=True
        )
    ]
    for i, head in enumerate(heads):
        cells = tuple(str(counts[i]) for counts in counted.values())
        columns.append(Column(head, "", cells, str(sum(c[i] for c in counted.values()))))
    columns.append(Column("all", "", tuple(str(sum(c)) for c in counted.values()), str(len(rows))))
    notes = [
        "stated by the report; from memory: said to be, but not read there; assumed: another "
        "report's, which reproduce it; fitted to the result, so no evidence",
        "energy only: the energy follows, and the CO₂e has no inputs to follow from",
        *(f"does not follow: {row.report}, {row.model}: {row.note}" for row in _differing(rows)),
    ]
    data = {
        "rows": len(rows),
        "by_status": {status.value: sum(counts) for status, counts in counted.items()},
        "by_factors": {
            head: {s.value: counted[s][i] for s in Reproduction} for i, head in enumerate(heads)
        },
        "reports": [_count(name, published.rows_of(name)) for name in published.names()],
    }
    return Table(tuple(columns), has_total=True, notes=tuple(notes)), data


def one(name: str) -> tuple[Table, dict[str, Any]]:
    """One published table: printed, recomputed, difference and status, row by row.

    Raises CarbontrackError for an unknown name.
    """
    rows = published.rows_of(name)
    inputs = [
        _column("power", "W", rows, lambda row: _plain(row.power_w)),
        _column("PUE", "", rows, lambda row: _plain(row.pue)),
        _column("grid", "kg/kWh", rows, lambda row: _plain(row.kg_per_kwh)),
        Column("factors", "", tuple(row.factors or NO_VALUE for row in rows), left=True),
    ]
    if any(row.energy for row in rows):
        inputs.append(_column("PUE", "in MWh", rows, _has_pue))
    alike = [column for column in inputs if len(rows) > 1 and len(set(column.cells)) == 1]
    columns = [
        Column("model", "", tuple(row.model for row in rows), left=True),
        _column("GPU", "hours", rows, lambda row: hours_text(row.gpu_hours)),
        *(column for column in inputs if column not in alike),
    ]
    if any(row.energy for row in rows):
        columns += [
            _column("printed", "MWh", rows, lambda row: _printed(row.energy)),
            _column("follows", "MWh", rows, lambda row: _follows(row.energy)),
            _column("off by", "", rows, lambda row: _difference(row.energy)),
        ]
    columns += [
        _column("printed", "tCO₂e", rows, lambda row: _printed(row.tco2e)),
        _column("follows", "tCO₂e", rows, lambda row: _follows(row.tco2e)),
        _column("off by", "", rows, lambda row: _difference(row.tco2e)),
    ]
    if any(row.water_kl is not None for row in rows):
        columns.append(_column("water", "kL", rows, _water))
    columns += [
        Column("status", "", tuple(row.status.value for row in rows), left=True),
    ]
    table = Table(tuple(columns), has_total=False, notes=tuple(_notes(rows, alike)))
    return table, {"report": rows[0].report, "rows": [_row(row) for row in rows]}


def _notes(rows: Sequence[PublishedRow], alike: Sequence[Column]) -> list[str]:
    same = [f"{c.head} {c.cells[0]} {c.unit}".strip() for c in alike if c.cells[0] != NO_VALUE]
    same = [_WHOLE.get(words, words) for words in same]
    notes = [f"in every row: {', '.join(same)}"] if same else []
    notes += [f"source: {source}" for source in dict.fromkeys(row.source for row in rows)]
    for note in dict.fromkeys(row.note for row in rows if row.note):
        notes.append(f"{', '.join(row.model for row in rows if row.note == note)}: {note}")
    unread = [row.model for row in rows if not row.read]
    return [*notes, f"{', '.join(unread)}: the source was not read"] if unread else notes


def as_printed(figure: Figure) -> tuple[str, str]:
    """The recomputed figure to the printed digits, and how it got there: rounded or cut.

    Authors do either, even within one table; what agrees with the print is taken, else rounding.
    """
    if figure.recomputed is None:
        return NO_VALUE, ""
    units = figure.recomputed / figure.unit
    cut = int(units + 1e-9)
    for count, how in ((round(units), "rounded"), (cut, "cut")):
        if abs(count * figure.unit - figure.printed) < figure.unit / 2:
            return _digits(count * figure.unit, figure.unit), how
    return _digits(round(units) * figure.unit, figure.unit), "rounded"


def _row(row: PublishedRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "hardware": row.hardware,
        "gpu_hours": row.gpu_hours,
        "power_w": row.power_w,
        "pue": row.pue,
        "intensity_kg_per_kwh": row.kg_per_kwh,
        "factors": row.factors or None,
        "accounting": row.accounting or None,
        "energy_pue": row.energy_pue or None,
        "energy_mwh": _figure(row.energy),
        "tco2e": _figure(row.tco2e),
        "water_kl": row.water_kl,
        "status": row.status.value,
        "source": row.source,
        "source_read": row.read,
        "note": row.note,
    }


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    text, how = as_printed(figure)
    known = figure.recomputed is not None
    return {
        "published": figure.printed,
        "recomputed": figure.recomputed,
        "recomputed_as_printed": text if known else None,
        "how": how or None,
        "difference": _relative(figure),
        "status": figure.status.value,
    }


def _count(name: str, rows: Sequence[PublishedRow]) -> dict[str, Any]:
    return {
        "name": name,
        "rows": len(rows),
        "reproduce": sum(row.status is Reproduction.REPRODUCES for row in rows),
        "source": rows[0].source,
    }


def _differing(rows: Iterable[PublishedRow]) -> list[PublishedRow]:
    return [row for row in rows if row.status is Reproduction.DIFFERS]


def _column(
    head: str, unit: str, rows: Sequence[PublishedRow], cell: Callable[[PublishedRow], str]
) -> Column:
    return Column(head, unit, tuple(cell(row) for row in rows))


def _has_pue(row: PublishedRow) -> str:
    """Whether the printed energy includes PUE."""
    return (
        {"before": "no", "after": "yes"}.get(row.energy_pue, NO_VALUE) if row.energy else NO_VALUE
    )


def _water(row: PublishedRow) -> str:
    return NO_VALUE if row.water_kl is None else f"{row.water_kl:,.0f}"


def _printed(figure: Figure | None) -> str:
    return NO_VALUE if figure is None else _digits(figure.printed, figure.unit)


def _follows(figure: Figure | None) -> str:
    return NO_VALUE if figure is None else as_printed(figure)[0]


def _difference(figure: Figure | None) -> str:
    relative = None if figure is None else _relative(figure)
    return NO_VALUE if relative is None else f"{relative:+.2%}"


def _relative(figure: Figure) -> float | None:
    if figure.recomputed is None or figure.printed == 0:
        return None
    return figure.recomputed / figure.printed - 1.0


def _digits(value: float, unit: float) -> str:
    """As many decimals as the print has; pounds are shown as kg would be."""
    text = f"{unit:.15f}".rstrip("0").partition(".")[2]
    return f"{value:,.{min(len(text), 6)}f}"


def _plain(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:g}"
