"""An estimate from GPU-hours and rated power, without a run: the Llama 2 report's method."""

from __future__ import annotations

from dataclasses import replace

from carbontrack import config, keys
from carbontrack.account.estimate import estimate_rated
from carbontrack.account.result import Estimate
from carbontrack.config import Settings
from carbontrack.errors import CarbontrackError
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import resolve
from carbontrack.vocabulary import Method


def estimate(
    gpu_hours: float,
    *,
    gpu: str | None = None,
    power_w: float | None = None,
    embodied: bool = False,
    label: str = "estimate",
    **factors: float | str | None,
) -> Estimate:
    """Energy (kWh), carbon (tCO2e) and cost of `gpu_hours`, by the Llama 2 report's method.

    `power_w` is of one GPU; by default the rated power of `gpu`. `factors` are settings as of
    carbontrack.toml: pue, zone, intensity (kgCO2e/kWh), tariff (per kWh), price_per_gpu_hour,
    currency, …; what is not given is the report's (1.1, 0.385) or the packaged table's. No
    configuration and no environment is read. Raises CarbontrackError for a number out of range, an
    unknown factor or GPU.
    """
    unknown = factors.keys() - {key.name for key in keys.KEYS}
    if unknown:
        raise CarbontrackError(f"no factor is named {', '.join(sorted(unknown))}.")
    settings = config.resolve([config.flags(**factors)])
    return estimate_hours(
        settings, gpu_hours, gpu=gpu, power_w=power_w, embodied=embodied, label=label
    )


def estimate_hours(
    settings: Settings,
    gpu_hours: float,
    *,
    gpu: str | None,
    power_w: float | None,
    embodied: bool,
    label: str,
    price: Factor | None = None,
) -> Estimate:
    """The same from resolved settings; `price` is an imported one."""
    hours = config.number("--gpu-hours", gpu_hours, "GPU-hours", high=1e12)
    name = gpu or ""
    factors = resolve(
        settings, method=Method.REPORT, embodied=embodied, devices={name: None}, price=price
    )
    if power_w is None and name not in factors.rated_w:
        what = (
            f"no rated power is known for {gpu!r}" if gpu else "neither --power nor --gpu is given"
        )
        raise CarbontrackError(
            f"{what}.", hint="Give --power in W, or a --gpu of `carbontrack factors list`."
        )
    rated = factors.rated_w[name].value if power_w is None else power_w
    watts = config.number("--power", rated, "W", high=1e5)
    if embodied and gpu is None and not factors.embodied_kg:
        raise CarbontrackError("--embodied needs to know the GPU.", hint="Give --gpu A100, say.")
    if power_w is not None:  # a given power does not come from the table of hardware
        factors = replace(factors, rated_w={})
    return estimate_rated(label, hours, watts, factors, gpu=gpu, embodied=embodied)
