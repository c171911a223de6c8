"""What a plan has where nothing is given, and what its settings must be. The job waits for this."""

from __future__ import annotations

from carbontrack.errors import CarbontrackError
from carbontrack.meters import AUTO

METER = AUTO
DEVICES = "job"  # of `vocabulary.Devices`, which takes 10 ms to import
HZ = 10.0
QUIET = False
ON_BUDGET = "warn"  # of `vocabulary.OnBudget`
BUDGET_GRACE_S = 60.0
METRICS_ADDRESS = "127.0.0.1"


def check(*, meter: str, devices: str, hz: float) -> None:
    """Raise CarbontrackError for settings that mean nothing, before anything is started."""
    if isinstance(hz, bool) or not isinstance(hz, (int, float)):
        raise CarbontrackError(f"hz {hz!r}: not a number.")
    if not 0.1 <= hz <= 50:
        raise CarbontrackError(f"{hz:g} samples a second are out of range.", hint="Give 0.1 to 50.")
    if devices != DEVICES:
        from carbontrack.vocabulary import Devices

        if devices not in tuple(Devices):
            raise CarbontrackError(f"devices {devices}: unknown.", hint="Give job or all.")
    if meter != METER:
        from carbontrack.meters.spec import check_spec

        check_spec(meter)
