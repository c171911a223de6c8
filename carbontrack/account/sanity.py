"""Checks of plausibility over a run: what its numbers say that cannot be, or hardly can. Pure.

A finding changes no number. It is a sentence for the notes of a table, a summary or a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from carbontrack.account.devices import devices_of
from carbontrack.factors import catalog
from carbontrack.ledger.recorded_rows import Devices, EdgeSteps, Run, Sensor, StepTotals, Usage
from carbontrack.ledger.window import Flag
from carbontrack.units import MS_PER_DAY, MS_PER_S
from carbontrack.vocabulary import DeviceKind

if TYPE_CHECKING:
    from carbontrack.ledger.rows import Summed

FLOPS_PER_PARAMETER = 6.0  # and token: Kaplan et al. 2020, arXiv:2001.08361
OVER_LIMIT = 1.1  # mean power ÷ limit: sensors are good to about 5 %
COVERED = 0.9  # share of the device-seconds whose energy is known
AGREES = 2.0  # factor between tokens ÷ time and logged tokens/s that pauses may explain
RECYCLED_DAYS = 90  # between recordings of one run: job ids are given again
_MIN_STEPS = 8  # that say something: their tokens grow by chance once in 8! runs
_SETTLED_S = 60.0  # by then a job is on the devices that it uses
_FLOPS_PER_TFLOPS = 1e12


def findings(
    run: Run, sensors: Sequence[Sensor], usages: Sequence[Usage], steps: StepTotals
) -> list[str]:
    """What is implausible of a run, a sentence each. `usages` add up to the run."""
    return [
        *of_run(run, devices_of(run, sensors, usages), steps),
        *of_each(run, sensors, usages),
    ]


def of_run(run: Run, devices: Devices, steps: StepTotals) -> list[str]:
    """What is implausible of it as a whole."""
    return [
        *_growing_tokens(steps),
        *_other_speed(steps),
        *_beyond_peak(run, devices, steps),
        *_rising_loss(steps),
        *_unknown_energy(run, devices),
        *_long_pause(devices),
    ]


def of_each(run: Run, sensors: Sequence[Sensor], usages: Sequence[Usage]) -> list[str]:
    """What is implausible of a device. `usages` add up to the run."""
    return [
        *_beyond_limit(sensors, usages),
        *_doubted_sensors(sensors, usages),
        *_idle_devices(run, sensors, usages),
    ]


def is_none_odd(summed: Summed) -> bool:
    """Whether there is certainly nothing `of_each`, so that no device need be looked at alone."""
    for alike in summed.devices.alike:
        signs = summed.signs[alike.kind]
        if signs.flags & Flag.IMPLAUSIBLE:
            return False
        if signs.peak_w and signs.limit_w and signs.peak_w > OVER_LIMIT * signs.limit_w:
            return False
        if alike.kind == DeviceKind.GPU and 0 < signs.used < len(alike.uuids):
            return False
    return True


def _idle_devices(run: Run, sensors: Sequence[Sensor], usages: Sequence[Usage]) -> Iterator[str]:
    """GPUs on which the driver never named a process of the job, beside others on which it did. Of
    a host on which it named none nothing is known.
    """
    flag = int(Flag.USED)
    used = {usage.device_key for usage in usages if flag & usage.flags}
    hosts = {sensor.host for sensor in sensors if sensor.device_key in used}
    gpus = [s for s in sensors if s.kind == DeviceKind.GPU and s.host in hosts]
    idle = [sensor for sensor in gpus if sensor.device_key not in used]
    if idle and min(sensor.recorded_s(run) for sensor in idle) >= _SETTLED_S:
        yield (
            f"the job could see {len(gpus)} GPUs, and the driver named its processes on "
            f"{len(gpus) - len(idle)} of them: the energy of all is in here; set "
            "CUDA_VISIBLE_DEVICES before carbontrack to leave out what is not used"
        )


def _long_pause(devices: Devices) -> Iterator[str]:
    """Schedulers begin to count their jobs again, and then another job has the same id."""
    days = devices.pause_ms / MS_PER_DAY
    if days > RECYCLED_DAYS:
        yield (
            f"nothing was recorded for {days:,.0f} days in between: if these are two jobs with the "
            "same id, give them different names or CARBONTRACK_RUN_ID"
        )


def _growing_tokens(steps: StepTotals) -> Iterator[str]:
    """A cumulative count that was logged as the tokens of the step."""
    first = [tokens for tokens in steps.first.tokens if tokens is not None]
    last = [tokens for tokens in steps.last.tokens if tokens is not None]
    if len(first) < _MIN_STEPS:
        return
    if all(a < b for counts in (first, last) for a, b in pairwise(counts)):
        yield (
            f"tokens grow with every step, from {first[0]:,} to {last[-1]:,}: if the job logs a "
            "cumulative count, every sum of tokens here is far too high; log it as tokens_total"
        )


def _other_speed(steps: StepTotals) -> Iterator[str]:
    """Tokens of the steps against the tokens/s that the job logs with them."""
    ratios = _speed_ratios(steps.first) | _speed_ratios(steps.last)
    if len(ratios) < _MIN_STEPS:
        return
    from statistics import median  # which the summary of a short job need not wait for

    ratio = median(ratios.values())
    if not 1 / AGREES <= ratio <= AGREES:
        yield (
            f"tokens of a step ÷ its time is {ratio:.3g} × the logged tokens_per_s: tokens are "
            "those of the step over all ranks"
        )


def _speed_ratios(end: EdgeSteps) -> dict[int, float]:
    """Tokens ÷ time since the step before ÷ logged tokens/s, by the number of the step."""
    if not any(end.tokens_per_s):
        return {}
    columns = (column[1:] for column in (end.steps, end.tokens, end.tokens_per_s))
    return {
        step: tokens / ((time_ms - before_ms) / MS_PER_S) / tokens_per_s
        for (before_ms, time_ms), step, tokens, tokens_per_s in zip(
            pairwise(end.times_ms), *columns, strict=True
        )
        if tokens and tokens_per_s and tokens_per_s > 0 and time_ms > before_ms
    }


def _beyond_peak(run: Run, devices: Devices, steps: StepTotals) -> Iterator[str]:
    """More FLOPs than the devices have."""
    parameters = run.model.get("parameters")
    speed = _tokens_per_s(steps)
    peak_flops = _peak_flops(devices)
    if not isinstance(parameters, (int, float)) or speed is None or peak_flops is None:
        return
    share = FLOPS_PER_PARAMETER * parameters * speed / peak_flops
    if share > 1.0:
        yield (
            f"{parameters / 1e9:,.4g} B parameters × 6 FLOPs × {speed:,.0f} tokens/s is "
            f"{share:.3g} × the devices' dense bf16 peak: check the tokens of the steps and the "
            "parameters (of a mixture of experts the active ones)"
        )


def _tokens_per_s(steps: StepTotals) -> float | None:
    """Over the run from its first step to its last; None if unknown."""
    times_ms = (*steps.first.times_ms, *steps.last.times_ms)
    first = steps.first.tokens
    if not steps.tokens or len(first) < _MIN_STEPS or max(times_ms) <= min(times_ms):
        return None
    before = first[0] or 0  # those of the first step were before that time
    return (steps.tokens - before) * MS_PER_S / (max(times_ms) - min(times_ms))


def _peak_flops(devices: Devices) -> float | None:
    """Of all GPUs; None if any is not in the hardware table."""
    peaks = []
    for alike in devices.alike:
        if alike.kind == DeviceKind.GPU:
            device = catalog.hardware(alike.name)
            if device is None or device.bf16_tflops is None:
                return None
            peaks.append(device.bf16_tflops * alike.share * len(alike.uuids))
    return sum(peaks) * _FLOPS_PER_TFLOPS if peaks else None


def _beyond_limit(sensors: Sequence[Sensor], usages: Sequence[Usage]) -> Iterator[str]:
    """A mean power that the device's limit does not allow."""
    energies_j: dict[int, float] = {}
    seconds: dict[int, float] = {}
    for usage in usages:
        if usage.energy_j is not None:
            key = usage.device_key
            energies_j[key] = energies_j.get(key, 0.0) + usage.energy_j
            seconds[key] = seconds.get(key, 0.0) + usage.energy_s
    over = []
    for sensor in sensors:
        key = sensor.device_key
        limit_w = max(sensor.power_limit_w or 0.0, sensor.rated_power_w or 0.0) * sensor.share
        power_w = energies_j[key] / seconds[key] if seconds.get(key, 0.0) > 0 else 0.0
        if 0 < limit_w * OVER_LIMIT < power_w:
            over.append((power_w / limit_w, sensor, power_w, limit_w))
    if over:
        _, sensor, power_w, limit_w = max(over, key=lambda found: found[0])
        others = f" (and {len(over) - 1} more)" if len(over) > 1 else ""
        yield (
            f"mean power of {sensor.name}{others} is {power_w:,.0f} W, but its limit is "
            f"{limit_w:,.0f} W: the sensor or its driver is wrong"
        )


def _doubted_sensors(sensors: Sequence[Sensor], usages: Sequence[Usage]) -> Iterator[str]:
    """A sensor that gave what its device cannot have, or contradicted the other one."""
    implausible = int(Flag.IMPLAUSIBLE)  # a Flag's own & is slow, and there are many hours
    doubted = {usage.device_key for usage in usages if implausible & usage.flags}
    names = [sensor.name for sensor in sensors if sensor.device_key in doubted]
    if names:
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        yield (
            f"a sensor of {names[0]}{others} gave values that cannot be, or contradicted the other "
            "one: what was believed, and since when, is among the events of `carbontrack show`"
        )


def _rising_loss(steps: StepTotals) -> Iterator[str]:
    """A loss that ends clearly above where it began."""
    first = [loss for loss in steps.first.losses if loss is not None]
    last = [loss for loss in steps.last.losses if loss is not None]
    size = min(len(first), len(last), steps.steps // 2)
    if size < _MIN_STEPS:
        return
    from statistics import quantiles

    began, ended = quantiles(first[:size], n=4), quantiles(last[-size:], n=4)
    if ended[0] > began[2]:
        yield f"the loss rose: {began[1]:.4g} over the first steps, {ended[1]:.4g} over the last"


def _unknown_energy(run: Run, devices: Devices) -> Iterator[str]:
    """Device-seconds whose energy is unknown: it is in no number."""
    if run.ended_ms is None:
        return
    expected_s = sum(alike.recorded_s for alike in devices.alike)
    known_s = sum(alike.energy_s for alike in devices.alike)
    if expected_s > 0 and 0 < known_s < COVERED * expected_s:
        share = 100 * (1 - known_s / expected_s)
        yield f"the energy of {share:.0f} % of the device-seconds is unknown and in no number here"
