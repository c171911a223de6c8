"""The notes below a table in a paper: what its reader must know, and nothing that its author has
still to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carbontrack import keys
from carbontrack.account.result import Estimate, unique
from carbontrack.factors.catalog import Factor
from carbontrack.query.price import PART
from carbontrack.report.notes import quantity, rows_by_factor, some
from carbontrack.report.scopes import inside, left_out
from carbontrack.vocabulary import Method, Quality, Status

_HOW = {
    Quality.COUNTER: "measured by the devices' energy counters",
    Quality.POWER: "measured as the integral of sampled power",
    Quality.STATED: "as stated by other tools or by hand",
    Quality.ESTIMATE: "estimated from thermal design power and utilisation, not measured",
    Quality.SIMULATED: "simulated: no device was measured",
}
_TITLES = {key.name: key.title or key.name.replace("_", " ") for key in keys.KEYS} | {
    "pue": "power usage effectiveness (PUE)",
    "intensity": "carbon intensity of electricity",
    "contract_intensity": "carbon intensity of the power contract",
    "wue": "water usage effectiveness (WUE)",
    "tariff": "price of electricity",
    "price_per_gpu_hour": "rent of a GPU-hour",
    "embodied_kg": "embodied carbon of a GPU",
    "utilisation": "utilisation over its lifetime",
    "node_w_per_device": "modelled power of the node per device",
    "node_w": "modelled power of the node",
    "rated_w": "rated power",
}
_ENDED = {
    Status.FAILED: "failed; what they used is included",
    Status.INTERRUPTED: "were interrupted; what they used until then is included",
    Status.RUNNING: "were still running",
}


@dataclass(frozen=True, slots=True)
class PaperNote:
    """A sentence without its full stop, the factor whose source it cites, and its column."""

    text: str
    factor: Factor | None = None
    column: str = ""  # that it is about; empty: all of the table
    of: str = ""  # which rows it is of, where not all

    @property
    def cited(self) -> str:
        """For where the source is cited: with the place, the year and the basis of the factor."""
        detail = "" if self.factor is None else _detail(self.factor)
        return f"{self.text}{f' ({detail})' if detail else ''}{self.of}"

    @property
    def plain(self) -> str:
        """With the source in words."""
        if self.factor is None or _is_given(self.factor):
            return f"{self.text}{self.of}"
        details = filter(None, (_detail(self.factor), _source(self.factor)))
        return f"{self.text} ({'; '.join(details)}){self.of}"


def paper_notes(rows: Sequence[Estimate], totals: Sequence[Estimate] = ()) -> list[PaperNote]:
    """The notes of `rows`, which are of runs, and of their sums."""
    texts = [*_energies(rows), *_scopes(rows)]
    notes = [PaperNote(text) for text in texts]
    notes += _factors(rows)
    notes += [PaperNote(text, column="cost") for text in _costs(rows)]
    notes += [PaperNote(text, column="loss") for text in _losses(rows)]
    notes += [PaperNote(text) for text in (*_ends(rows), *_parts(rows))]
    notes += [PaperNote(note) for note in unique(note for row in totals for note in row.notes)]
    return notes


def _energies(rows: Sequence[Estimate]) -> Iterator[str]:
    """How energy came about, for which rows where not for all."""
    how: dict[str, list[str]] = {}
    for row in rows:
        words = (
            ["GPU-hours times rated power, not measured"]
            if row.method == Method.REPORT
            else [text for quality, text in _HOW.items() if quality in row.quality.split(" + ")]
        )
        for text in words:
            how.setdefault(text, []).append(row.label)
    everyone = _labels(rows)
    for text, labels in how.items():
        yield f"Energy is {text}{_of(labels, everyone)}"


def _scopes(rows: Sequence[Estimate]) -> Iterator[str]:
    for scope in unique(part for row in rows for part in row.scope.split(", ")):
        missing = _and([*left_out(scope), "network", "fans"])
        yield f"It is the energy of {_and(inside(scope))}, without {missing}"


def _factors(rows: Sequence[Estimate]) -> Iterator[PaperNote]:
    everyone = _labels(rows)
    for factor, having in rows_by_factor(rows).items():
        title = _TITLES.get(factor.name, factor.name.replace("_", " "))
        verb = "is assumed to be" if factor.assumed else "is"
        of = _of([row.label for row in having], everyone)
        column = "cost" if factor.name in keys.PRICES else ""
        yield PaperNote(f"The {title} {verb} {_quantity(factor)}", factor, column, of)


def _quantity(factor: Factor) -> str:
    return quantity(factor).replace("kg/kWh", "kgCO₂e/kWh")


def _detail(factor: Factor) -> str:
    """The place, the year and the basis of a factor: World, 2025, life-cycle average."""
    place = factor.source.removesuffix(_source(factor)).rstrip(", ")
    basis = "" if factor.basis == "as given" else factor.basis
    return ", ".join(filter(None, (place, str(factor.year or ""), basis)))


def _source(factor: Factor) -> str:
    """Where it is from, without the place."""
    from carbontrack.factors import data

    return data.source(factor.cite)["title"] if factor.cite else factor.source


def _costs(rows: Sequence[Estimate]) -> Iterator[str]:
    for what in unique(row.cost_of for row in rows):
        of = _of([row.label for row in rows if row.cost_of == what], _labels(rows))
        yield f"Cost is of {what.replace(' + ', ' and ')} only{of}"


def _losses(rows: Sequence[Estimate]) -> Iterator[str]:
    if any((row.final_loss_steps or 0) > 1 for row in rows):
        yield "Loss is the mean of the last 1 % of steps"


def _ends(rows: Sequence[Estimate]) -> Iterator[str]:
    for status, what in _ENDED.items():
        labels = unique(row.label for row in rows if row.status == status)
        if labels:
            yield f"Runs that {what}: {some(labels)}"


def _parts(rows: Sequence[Estimate]) -> Iterator[str]:
    labels = unique(row.label for row in rows if PART in row.notes)
    if labels:
        beyond = "Of runs that began before the range of time or went on after it"
        yield f"{beyond}, only what is in it counts: {some(labels)}"


def _is_given(factor: Factor) -> bool:
    """Stated by who made the table: there is nothing to cite."""
    return not factor.cite and not factor.version


def _labels(rows: Sequence[Estimate]) -> set[str]:
    return {row.label for row in rows}


def _of(labels: Sequence[str], everyone: set[str]) -> str:
    """Which rows, where it is not everyone."""
    return "" if set(labels) == everyone else f" ({some(labels)})"


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
