"""The keys that a table is grouped by: which groups a run belongs to, and its part in each.

A key that splits a run is an entry of `_SPLITTING`: how many groups a run belongs to, and the parts
of a `RunRecord` by group. Keys are applied in the order of that table, each to the parts that the
ones before it left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from carbontrack.account.phases import OTHER
from carbontrack.account.split import (
    RunRecord,
    by_host,
    by_month,
    months_of,
    reaches_beyond,
    run_in,
    span_of_month,
)
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import ALWAYS_MS, Run, Span, inner_span
from carbontrack.query.attempts import attempts_of, by_attempt
from carbontrack.query.phases import by_phase, timeline_of
from carbontrack.query.price import part_of, record_of, summed_of, whole_of
from carbontrack.vocabulary import UNATTRIBUTED, RunKind

if TYPE_CHECKING:
    from carbontrack.ledger.held import Held
    from carbontrack.ledger.imported import Connection

NO_GROUP = "–"
MOST_KEYS = 2


@dataclass(frozen=True, slots=True)
class Key:
    """A key of `--by`.

    `groups` are those that a run belongs to, none if unknown. Where there are several, `split`
    makes a part of each, which add up to what it is given; `groups` is asked first, so that most
    runs need not be read again.
    """

    name: str
    groups: Callable[[Held, Run], Sequence[str]]
    split: Callable[[Held, Run, RunRecord], Mapping[str, RunRecord]] | None = None
    by_time: bool = False  # in whole hours: the devices of a part need not be looked at one by one
    places: bool = False  # whether it says where or when, which a watch of a node has as well
    joins: bool = True  # may stand beside another key
    newest_first: bool = False  # alone; beside another one all are in order
    rest: str = NO_GROUP  # the group that stands last


@dataclass(frozen=True, slots=True)
class Part:
    """What of a run belongs to a group: its value of each key. `record` is None of a run that is
    not split: all of it does, or all of it that is in the span.
    """

    group: Mapping[str, str]
    record: RunRecord | None


def keys_of(names: Sequence[str]) -> list[Key]:
    """The keys, in the order given. Raises CarbontrackError for one that is unknown or given twice,
    for too many, and for one that joins no other.
    """
    keys = [_key(name) for name in names]
    if len(keys) > MOST_KEYS or len(set(names)) < len(names):
        raise CarbontrackError(
            f"--by {', '.join(names)}: not {MOST_KEYS} different keys.",
            hint="Example: --by month --by project.",
        )
    alone = next((key.name for key in keys if not key.joins), None)
    if alone is not None and len(keys) > 1:
        raise CarbontrackError(f"--by {alone} joins no other key.", hint="Give it alone.")
    return keys


def will_split(held: Held, keys: Sequence[Key], span_ms: Span | None = None) -> None:
    """Have what `parts_of_run` needs of the runs that it splits read of all of them together."""
    alone: list[Run] = []
    spans: list[tuple[Run, Span]] = []
    split = [run for run in held.runs if _is_split(_groups_of(held, run, keys, span_ms))]
    every = {run.key: _spans_of(run, keys, span_ms) for run in split}
    held.will_sum((run, span) for run in split for span in every[run.key])
    for run in split:
        of_run = every[run.key]
        if span_ms is not None and reaches_beyond(run, span_ms):
            spans.append((run, inner_span(run, span_ms)))
        else:
            spans += [(run, inner_span(run, span)) for span in of_run]
        if _by_device(held, run, keys, of_run):
            alone.append(run)
    held.will_split(alone)
    held.will_look_at(alone)
    held.sum_steps(spans)


def _spans_of(run: Run, keys: Sequence[Key], span_ms: Span | None) -> list[Span]:
    """The spans of whole hours whose parts of the run are wanted; none where all of it is."""
    first_ms, next_ms = span_ms or (0, ALWAYS_MS)
    is_part = reaches_beyond(run, span_ms)
    if any(key.by_time for key in keys):
        months = [span_of_month(month) for month in months_of(run)]
        inside = [(max(a, first_ms), min(b, next_ms)) for a, b in months]
        spans = [span for span in inside if span[0] < span[1]]
        if len(spans) > 1:
            return spans
    return [(first_ms, next_ms)] if is_part else []


def _by_device(held: Held, run: Run, keys: Sequence[Key], spans_ms: Sequence[Span]) -> bool:
    """Whether one of them splits the run by more than hours, or its devices must be looked at one
    by one in one of these spans.
    """
    if any(key.split and not key.by_time and len(key.groups(held, run)) > 1 for key in keys):
        return True
    return any(summed_of(held, run, span) is None for span in spans_ms)


def parts_of_run(
    held: Held, run: Run, keys: Sequence[Key], span_ms: Span | None = None
) -> list[Part]:
    """The parts of a run by group; they add up to it, or to what of it is in the span."""
    groups = _groups_of(held, run, keys, span_ms)
    if not _is_split(groups):
        return [Part({key.name: _group(of) for key, of in groups}, None)]
    order = list(_SPLITTING)
    keys = [key for key, _ in groups]
    by_device = _by_device(held, run, keys, _spans_of(run, keys, span_ms))
    parts = [Part({}, part_of(held, run, span_ms, by_device=by_device))]
    whole = cache(lambda: record_of(held, run) if by_device else whole_of(held, run))
    for key in sorted(keys, key=lambda k: order.index(k.name) if k.name in order else -1):
        parts = [smaller for part in parts for smaller in _by(held, run, part, key, whole)]
    return [Part({key.name: part.group[key.name] for key in keys}, part.record) for part in parts]


_Groups = Sequence[tuple[Key, Sequence[str]]]


def _groups_of(held: Held, run: Run, keys: Sequence[Key], span_ms: Span | None) -> _Groups:
    """The keys as they are of this run, each with its groups, or those of what is in the span."""
    if run.kind is RunKind.WATCH:
        keys = [key if key.places else _unattributed(key) for key in keys]
    inside = run_in(run, span_ms) if span_ms is not None and reaches_beyond(run, span_ms) else run
    return [(key, key.groups(held, inside)) for key in keys]


def _is_split(groups: _Groups) -> bool:
    return any(key.split is not None and len(of) > 1 for key, of in groups)


def _group(names: Sequence[str]) -> str:
    return "+".join(names) or NO_GROUP


def values_of(
    connection: Connection, runs: Sequence[Run], name: str, option: str = "--by"
) -> list[str]:
    """The group of each run as a whole by one key, `NO_GROUP` of one without. Raises
    CarbontrackError for an unknown key, given to `option`.
    """
    from carbontrack.ledger.held import each_held

    key = _key(name, option)
    return [_group(key.groups(held, run)) for held, run in each_held(connection, runs)]


def _by(held: Held, run: Run, part: Part, key: Key, whole: Callable[[], RunRecord]) -> list[Part]:
    groups = list(key.groups(held, run if part.record is None else part.record.run))
    split: Mapping[str, RunRecord] = {}
    if len(groups) > 1 and key.split is not None:
        split = key.split(held, run, part.record or whole())
    if split:
        return [Part({**part.group, key.name: name}, one) for name, one in split.items()]
    return [Part({**part.group, key.name: _group(groups)}, part.record)]


def _hosts(held: Held, run: Run) -> list[str]:
    return list(dict.fromkeys(one.host for one in held.recordings(run)))


def _months(held: Held, run: Run) -> list[str]:
    """None of a run that was entered by hand without a time."""
    stated = held.stated(run)
    return [] if any(row.started_ms is None for row in stated) else months_of(run)


def _in_months(held: Held, run: Run, whole: RunRecord) -> Mapping[str, RunRecord]:
    """Devices that were added up are added up again of each month."""
    parts = by_month(whole, partial(held.step_totals, whole.run))
    if whole.devices is None:
        return parts
    first_ms, next_ms = whole.spans_ms[0] if whole.spans_ms else (0, ALWAYS_MS)
    found = {}
    for month, part in parts.items():
        a, b = span_of_month(month)
        summed = held.devices(run, (max(a, first_ms), min(b, next_ms)))
        assert summed is not None, "asked in `_by_device`"
        found[month] = replace(part, devices=summed.devices)
    return found


def _attempts(held: Held, run: Run) -> list[str]:
    return [str(attempt.number) for attempt in attempts_of(held, run)]


def _phases(held: Held, run: Run) -> list[str]:
    return list(timeline_of(held, run).spans())


_MONTH = "month"


# In the order in which they split: time before what was done in it.
_SPLITTING = {
    key.name: key
    for key in (
        Key(_MONTH, _months, _in_months, by_time=True, places=True, newest_first=True),
        Key("attempt", _attempts, lambda held, _, whole: by_attempt(held, whole)),
        Key("host", _hosts, lambda _held, _run, whole: by_host(whole), places=True),
        Key("phase", _phases, lambda held, _, whole: by_phase(held, whole), rest=OTHER),
    )
}


def _text_or_none(value: object) -> str | None:
    """A job may call its model anything."""
    return value if isinstance(value, str) else None


_OF_RUN: Mapping[str, Callable[[Run], str | None]] = {
    "name": lambda run: run.name,
    "project": lambda run: run.project,
    "user": lambda run: run.user,
    "model": lambda run: _text_or_none(run.model.get("name")),
    "status": lambda run: run.status,
    "account": lambda run: run.account,
    "partition": lambda run: run.partition,
    "scheduler": lambda run: run.scheduler,
    "cluster": lambda run: run.cluster,
    "job": lambda run: run.job_id,
    "array": lambda run: None if run.array_index is None else str(run.array_index),
}
NAMES = (*_OF_RUN, *_SPLITTING, "tag:KEY")


def _key(name: str, option: str = "--by") -> Key:
    if name in _SPLITTING:
        return _SPLITTING[name]
    value = _OF_RUN.get(name)
    if name.startswith("tag:"):
        tag = name.removeprefix("tag:")
        return Key(name, lambda _, run: _known(run.tags.get(tag)))
    if value is None:
        raise CarbontrackError(f"{option} {name}: unknown.", hint=f"Give {', '.join(NAMES)}.")
    return Key(name, lambda _, run: _known(value(run)))


def _unattributed(key: Key) -> Key:
    """What this key makes of a watch: its node's energy belongs to no job."""
    return Key(key.name, lambda _, run: [UNATTRIBUTED])


def _known(value: object) -> list[str]:
    return [str(value)] if value else []
