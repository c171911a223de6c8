"""What `doctor` finds: what can be measured here, where it goes, and how to fix what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from carbontrack.errors import CarbontrackError
from carbontrack.folders import runtime_folders
from carbontrack.vocabulary import Verdict

_LOOK_S = 0.7  # 30 refreshes of an NVML counter


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `fix` is what to type or do; empty if nothing is to be done."""

    area: str
    verdict: Verdict
    what: str
    fix: str = ""


def findings(url: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at meters and devices, the ledger at `url`, and the folder for training steps."""
    yield from _meters(environ)
    yield from _ledger(url)
    yield _steps_folder(environ)


def _meters(environ: Mapping[str, str]) -> Iterator[Finding]:
    from carbontrack.meters import AUTO
    from carbontrack.meters.base import MeterContext
    from carbontrack.meters.observe import observe
    from carbontrack.meters.registry import find_meters

    try:
        found = find_meters(AUTO, MeterContext(environ=environ))
    except CarbontrackError as error:
        yield Finding("meters", Verdict.PROBLEM, error.what, error.hint)
        return
    for meter in found.meters:
        yield Finding("meters", Verdict.OK, f"{meter.name}: {meter.note}")
    for over in found.rejected:
        yield Finding("meters", Verdict.NOTE, f"not {over.name}: {over.reason}")
    sources = [source for meter in found.meters for source in meter.sources]
    for source, look in zip(sources, observe(sources, _LOOK_S), strict=True):
        device = source.device
        name = f"{device.name} {device.uuid}"
        if not look.answers:
            yield Finding(
                "devices",
                Verdict.PROBLEM,
                f"{name} does not answer",
                "See dmesg for its errors; a reset or a reboot may bring it back.",
            )
            continue
        parts = [f"{device.quality} by {device.field}, scope {device.scope}"]
        if look.power_w is not None:
            parts.append(f"{look.power_w:.1f} W now")
        if look.update_period_ms is not None:
            parts.append(f"refreshed every {look.update_period_ms:.0f} ms")
        yield Finding("devices", Verdict.OK, f"{name}: {', '.join(parts)}")


def _ledger(url: str) -> Iterator[Finding]:
    from carbontrack.ledger import set_aside
    from carbontrack.ledger.status import status_of
    from carbontrack.ledger.url import db_option, redacted_url
    from carbontrack.report.numbers import counted

    try:
        found = status_of(url)
    except CarbontrackError as error:
        yield Finding("ledger", Verdict.PROBLEM, error.what, error.hint)
        return
    if found.revision is None:
        yield Finding(
            "ledger", Verdict.NOTE, f"{redacted_url(url)}: none yet; a first run creates it"
        )
    elif found.revision != found.head:
        yield Finding(
            "ledger",
            Verdict.PROBLEM,
            f"{found.ledger} has schema {found.revision}, this program needs {found.head}",
            f"carbontrack db upgrade{db_option(url)}",
        )
    else:
        what = f"{found.ledger} ({found.dialect}) answers: {counted(found.runs or 0, 'run')}"
        yield Finding("ledger", Verdict.OK, f"{what}, schema {found.revision}")
    if found.journals:
        yield Finding(
            "ledger",
            Verdict.PROBLEM,
            f"{counted(found.journals, 'journal')} not in the ledger yet",
            f"carbontrack db recover{db_option(url)}",
        )
    yield from _clock(url)
    for reason in dict.fromkeys(one.reason for one in set_aside.found(url)):
        yield Finding(
            "ledger",
            Verdict.PROBLEM,
            f"a collector refused rows: {reason}",
            f"When that is set right: carbontrack db ship --retry{db_option(url)}",
        )


def _clock(url: str) -> Iterator[Finding]:
    """What the last recorder that shipped found out about the clock here."""
    from carbontrack.ledger.clock import FAR_MS, is_noted
    from carbontrack.ledger.unsent import last_clock
    from carbontrack.report.numbers import iso_time
    from carbontrack.units import MS_PER_S

    clock = last_clock(url)
    if clock is None or not is_noted(clock):
        return
    side = "behind" if clock.offset_ms > 0 else "ahead of"
    what = f"{abs(clock.offset_ms) / MS_PER_S:,.1f} s {side} the clock of what it ships to"
    yield Finding(
        "clock",
        Verdict.PROBLEM if abs(clock.offset_ms) >= FAR_MS else Verdict.NOTE,
        f"{what}, at {iso_time(clock.time_ms)}",
        "Let the clock be set, for instance by chrony or systemd-timesyncd.",
    )


def _steps_folder(environ: Mapping[str, str]) -> Finding:
    folders = runtime_folders(environ)
    for folder in folders:
        if os.access(folder, os.W_OK | os.X_OK):
            what = f"{folder} takes the training steps of running jobs"
            return Finding("steps", Verdict.OK, what)
    return Finding(
        "steps",
        Verdict.PROBLEM,
        f"none of {', '.join(folders)} can be written, so training steps will be missing",
        "Set TMPDIR to a folder that you can write.",
    )
