"""Entering a run that was measured elsewhere, checked before it is written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.factors.catalog import hardware, known_hardware
from carbontrack.factors.resolve import resolve
from carbontrack.ledger import engine
from carbontrack.ledger.amend import amendments_of, put
from carbontrack.ledger.held import Held
from carbontrack.ledger.names import check_lengths, check_name, check_project
from carbontrack.ledger.recorded_rows import Recording, Run
from carbontrack.ledger.rows import Stated
from carbontrack.ledger.transaction import Within, changing
from carbontrack.ledger.user import user
from carbontrack.ledger.write import RunWriter
from carbontrack.query.amend import Count, count_of
from carbontrack.query.price import pricing
from carbontrack.redact import redact, redact_label, redact_tags
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, now_ms
from carbontrack.version import __version__
from carbontrack.vocabulary import ENTERED, AmendedField, Method, RunKind, Status

_UNKNOWN_HOST = "unknown"
_MOST_AHEAD_MS = 366 * MS_PER_DAY
_MOST_HOURS, _MOST_KWH, _MOST_W, _MOST_DEVICES = 1e12, 1e12, 1e5, 1e7


def add(
    url: str,
    flags: config.Layer,
    *,
    name: str,
    device: str,
    devices: int | None = None,
    gpu_hours: float | None = None,
    energy_kwh: float | None = None,
    power_w: float | None = None,
    tokens: Count | None = None,
    started_ms: int | None = None,
    ended_ms: int | None = None,
    source: str | None = None,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
    cwd: str = "",
) -> Run:
    """Write a run with what is stated of it; its settings are those of `flags` alone, for it ran
    elsewhere. The ledger is made if there is none.

    Raises CarbontrackError, and writes nothing, for what is missing or cannot be.
    """
    check_name(name)
    check_project(project)
    check_lengths({"name": name, "project": project, "device": device, "source": source})
    row = _row(device, devices, gpu_hours, energy_kwh, power_w, source, started_ms, ended_ms)
    given = config.Layer(flags.origin, config.values(config.resolve([flags])))
    begun_ms = now_ms() if row.started_ms is None else row.started_ms
    run = Run(
        id=str(uuid.uuid4()),
        name=redact_label(name),
        project=redact_label(project) if project else None,
        tags=redact_tags(tags or {}),
        command=redact(command),
        cwd=redact_label(cwd),
        user=user(),
        git_commit=None,
        git_dirty=None,
        started_ms=begun_ms,
        facility=given.values,
        model={},
        kind=RunKind.STATED,
        ended_ms=begun_ms if row.ended_ms is None else row.ended_ms,
    )
    total = count_of(tokens, "--tokens")
    _check_settings(url, run, given)
    _write(url, run, row, total)
    return run


def _row(
    device: str,
    devices: int | None,
    gpu_hours: float | None,
    energy_kwh: float | None,
    power_w: float | None,
    source: str | None,
    started_ms: int | None,
    ended_ms: int | None,
) -> Stated:
    """What is stated, checked. One without an end lasts as long as its devices had its hours."""
    if gpu_hours is None and energy_kwh is None:
        raise CarbontrackError(
            "neither --gpu-hours nor --energy is given.", hint="Give one of them, or both."
        )
    known = hardware(device) if power_w is not None else known_hardware(device)
    count = None if devices is None else round(_number("--devices", devices, "", _MOST_DEVICES))
    hours = _known("--gpu-hours", gpu_hours, "GPU-hours", _MOST_HOURS)
    if started_ms is not None and ended_ms is None:
        ended_ms = started_ms + round((hours or 0.0) / (count or 1) * MS_PER_HOUR if count else 0)
    if ended_ms is not None and (started_ms is None or ended_ms < started_ms):
        raise CarbontrackError("--end needs a --start before it.")
    if started_ms is not None and started_ms < 0:
        raise CarbontrackError("--start is before 1970.")
    if ended_ms is not None and ended_ms > now_ms() + _MOST_AHEAD_MS:
        raise CarbontrackError(
            "the run would end more than a year from now.",
            hint="Check --gpu-hours, --devices and --start, or give --end.",
        )
    return Stated(
        device_name=known.name if known else device,
        devices=count,
        device_hours=hours,
        power_w=_known("--power", power_w, "W", _MOST_W),
        energy_kwh=_known("--energy", energy_kwh, "kWh", _MOST_KWH),
        source=source or f"{user()}, by hand",
        started_ms=started_ms,
        ended_ms=ended_ms,
    )


def _known(where: str, value: float | None, unit: str, most: float) -> float | None:
    return None if value is None else _number(where, value, unit, most)


def _number(where: str, value: float, unit: str, most: float) -> float:
    found = config.number(where, value, unit, high=most)
    if found <= 0:
        raise CarbontrackError(f"{where} {found:g} must be above 0.")
    return found


def _check_settings(url: str, run: Run, given: config.Layer) -> None:
    """Raises CarbontrackError where one of these is unknown."""
    try:
        reader = engine.open_reader(url)
    except engine.NoLedger:
        resolve(config.resolve([given]), method=Method.MEASURED)
        return
    with reader.connect() as connection:
        pricing(Held(connection, [run]), run, given, [], embodied=False)


def _write(url: str, run: Run, row: Stated, tokens: int | None) -> None:
    """All of it in one transaction. A recording says, as of any run, when it ended and how."""
    recording = Recording(
        id=str(uuid.uuid5(uuid.UUID(run.id), "recording")),
        host=_UNKNOWN_HOST,
        boot_id=None,
        recorder_version=__version__,
        settings={"meter": ENTERED},
        started_ms=run.started_ms,
        heartbeat_ms=run.end_ms,
    )
    with changing(url) as transaction:
        writer = RunWriter(Within(transaction), run, recording, [])
        writer.state([row])
        writer.finish(status=Status.COMPLETED, exit_code=None, ended_ms=run.end_ms)
        if tokens is not None:
            put(transaction, amendments_of(run, {AmendedField.TOKENS: (None, tokens)}))
