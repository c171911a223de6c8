"""carbontrack: carbon and cost accounting for training runs.

What a training script may call: `track()` records a block of it; `log_step()`, `log_event()` and
`describe_model()` log how it goes, `phase()` what its time goes to. For notebooks: `Ledger` reads
what was recorded as data frames. For any program: `hardware()` gives the data sheet of an
accelerator, `estimate()` the energy, carbon and money of GPU-hours, `published()` the rows of a
report. Importing this imports nothing heavy.
"""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.version import __version__

TYPE_CHECKING = False  # `typing` costs 15 ms, and a job waits for this
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike
    from typing import Any

    from carbontrack.account.hours import estimate
    from carbontrack.account.published import rows_of as published
    from carbontrack.factors.catalog import known_hardware as hardware
    from carbontrack.job import describe_model, log_event, log_step
    from carbontrack.job_phases import phase
    from carbontrack.query.ledger import Ledger as Ledger
    from carbontrack.record.track import Track

__all__ = [
    "CarbontrackError",
    "Ledger",
    "__version__",
    "describe_model",
    "estimate",
    "hardware",
    "log_event",
    "log_step",
    "phase",
    "published",
    "track",
]

_LAZY = {
    "Ledger": ("carbontrack.query.ledger", "Ledger"),
    "estimate": ("carbontrack.account.hours", "estimate"),
    "describe_model": ("carbontrack.job", "describe_model"),
    "hardware": ("carbontrack.factors.catalog", "known_hardware"),
    "log_event": ("carbontrack.job", "log_event"),
    "log_step": ("carbontrack.job", "log_step"),
    "phase": ("carbontrack.job_phases", "phase"),
    "published": ("carbontrack.account.published", "rows_of"),
}
"""Public names by module and name there: imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    try:
        found = globals()[name] = getattr(__import__(module, fromlist=[attribute]), attribute)
    except (OSError, MemoryError) as error:
        if module not in _OF_JOBS:
            raise
        return _Unavailable(name, error)  # these never raise into a job, which may be out of files
    return found


_OF_JOBS = ("carbontrack.job", "carbontrack.job_phases")


class _Unavailable:
    """What a job may call where its module cannot be imported now: it says so, and does nothing."""

    def __init__(self, name: str, error: BaseException) -> None:
        from os import write

        try:  # noqa: SIM105 - `contextlib` may be out of reach, too
            write(2, f"carbontrack: {name}() is not logged: {error}.\n".encode())
        except OSError:
            pass

    def __call__(self, *_: object, **__: object) -> _Unavailable:
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def track(
    name: str | None = None,
    *surplus: Any,
    project: str | None = None,
    tags: Mapping[str, str] | Iterable[str] | None = None,
    db: str | PathLike[str] | None = None,
    meter: str = "auto",
    devices: str = "job",
    hz: float = 10.0,
    quiet: bool = False,
    **unknown: Any,
) -> Track:
    """Record this process while a block runs: `with track("x") as t:`, `t = track("x").start()` and
    `t.stop()`, or `@track("x")` or `@track` on a function.

    Afterwards, and meanwhile, `t.energy_kwh` (of the devices, before PUE), `t.tco2e`, `t.cost`,
    `t.coverage` and `t.summary()` say what it used. `tags` are {"team": "nlp"} or ["team=nlp"]. The
    recorder is that of `carbontrack run`, a process of its own. Where another records already (a
    wrapper around us, a block around this one, or the node's first worker under torchrun), the
    block is part of that run. Never raises: where the block cannot be recorded, as with a setting
    that is invalid, one line on stderr says why, and its `id` is None.
    """
    from carbontrack.record.track import Track

    function, name = (name, None) if callable(name) else (None, name)  # @track, without ()
    block = Track(
        name=name,
        project=project,
        tags=tags,
        db=db,
        meter=meter,
        devices=devices,
        hz=hz,
        quiet=quiet,
        **({"arguments": surplus} if surplus else {}),
        **unknown,
    )
    return block if function is None else block(function)
