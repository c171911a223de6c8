"""The metadata `co2_eq_emissions` of a model card on the Hugging Face Hub, of all runs together:
lines to put between the two --- of its README.md.

See https://huggingface.co/docs/hub/model-cards-co2. What the Hub calls the training type is not
known here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

from carbontrack.account.result import Estimate, unique
from carbontrack.account.total import why_unknown
from carbontrack.errors import CarbontrackError
from carbontrack.report import escape
from carbontrack.report.document import Document
from carbontrack.report.forms import Form
from carbontrack.units import KG_PER_T

_G_PER_T = 1000 * KG_PER_T


def _render(document: Document) -> str:
    """Raises CarbontrackError where the emissions of a run are unknown, or do not add up."""
    every = document.rows or []
    rows = [row for row in every if row.method == every[0].method]
    unknown = unique(row.label for row in rows if row.tco2e is None)
    if unknown or not rows:
        of = f" of {', '.join(unknown)}" if unknown else ""
        raise CarbontrackError(
            f"The emissions{of} are unknown: there is nothing to put into a model card."
        )
    total = document.totals[0]  # in which what two runs recorded counts once
    if total.tco2e is None:
        raise CarbontrackError(
            f"A model card has one figure, and {why_unknown(total, 'tco2e')}.",
            hint="Name runs that add up, or give one --zone.",
        )
    grams = total.tco2e * _G_PER_T
    fields = {
        "source": f"carbontrack ({', '.join(unique(row.quality for row in rows))})",
        "geographical_location": "; ".join(_places(rows)),
        "hardware_used": "; ".join(_hardware(rows)),
    }
    lines = [f"  {name}: {_quoted(text)}\n" for name, text in fields.items() if text]
    return f"co2_eq_emissions:\n  emissions: {_number(grams)}  # g\n{''.join(lines)}"


def _number(grams: float) -> str:
    """Six digits, and never an exponent: YAML 1.1 takes 1e+06 for text."""
    return f"{Decimal(f'{grams:.6g}'):f}"


def _places(rows: Sequence[Estimate]) -> list[str]:
    """Where the intensity is of; none of the world's average, which is no place."""
    factors = [row.factors.intensity for row in rows if row.factors is not None]
    return unique(
        factor.source.partition(",")[0] for factor in factors if factor.cite and not factor.assumed
    )


def _hardware(rows: Sequence[Estimate]) -> list[str]:
    return unique(_devices(row) for row in rows if row.device_names)


def _devices(row: Estimate) -> str:
    names = ", ".join(row.device_names)
    return names if row.devices is None else f"{row.devices} × {names}"


def _quoted(text: str) -> str:
    return escape.json(json.dumps(text, ensure_ascii=False))


FORM = Form(_render, (), of_runs=True)
