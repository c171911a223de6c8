"""Build RunData from a DataFrame, for the figures that need no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from carbontrack.account.curve import EnergyCurve
from carbontrack.account.result import Estimate
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Run, Sensor
from carbontrack.ledger.rows import Series
from carbontrack.units import J_PER_KWH, MS_PER_S
from carbontrack.vocabulary import Method, Status
from dashboards.data import RunData

_STEPS = ("step", "time", "steps", "loss", "loss_min", "loss_max", "tokens", "tokens_per_s")


def of_frame(frame: pd.DataFrame) -> RunData:
    """Either windows of power: start (UTC), power_w, and where they are known device (any name),
    power_min_w, power_max_w, energy_j, energy_s; or training steps: loss, and step or tokens (of
    the step). `frame.attrs["name"]` is its name in titles and legends.

    Raises CarbontrackError for a frame that is neither.
    """
    if {"start", "power_w"} <= set(frame.columns):
        return _of_power(frame)
    if "loss" in frame.columns:
        return _of_steps(frame)
    raise CarbontrackError(
        f"A frame of {', '.join(map(str, frame.columns)) or 'no columns'} cannot be drawn.",
        hint="Give start and power_w, or loss and step or tokens.",
    )


def _of_power(frame: pd.DataFrame) -> RunData:
    names = frame["device"] if "device" in frame.columns else pd.Series(0, index=frame.index)
    number, devices = pd.factorize(names, sort=True)
    start = pd.DatetimeIndex(pd.to_datetime(frame["start"], utc=True))
    power = pd.DataFrame({"device": number, "start": start})
    steps_s = power.groupby("device")["start"].diff().dt.total_seconds()
    level_s = max(1, round(steps_s.median())) if steps_s.notna().any() else 1
    power["power_w"] = frame["power_w"].to_numpy(dtype=float)
    power["energy_s"] = _column(frame, "energy_s", np.full(len(frame), float(level_s)))
    power["energy_j"] = _column(
        frame, "energy_j", (power["power_w"] * power["energy_s"]).to_numpy()
    )
    for name in ("power_min_w", "power_max_w"):
        power[name] = _column(frame, name, power["power_w"].to_numpy())
    power = power.sort_values(["device", "start"], ignore_index=True)
    starts_ms = ((power["start"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "ms")).tolist()
    energies = [None if np.isnan(joules) else float(joules) for joules in power["energy_j"]]
    begin_ms = min(starts_ms, default=0)
    end_ms = max(starts_ms, default=0) + level_s * MS_PER_S
    series = Series(level_s, {"start_ms": starts_ms, "energy_j": energies})
    return RunData(
        run=_run(frame, "power", begin_ms, end_ms),
        sensors=tuple(_sensor(str(name)) for name in devices),
        level_s=level_s,
        power=power,
        steps=_steps(pd.DataFrame()),
        events=(),
        kwh_by_hour={},
        curve=EnergyCurve.of(series, from_ms=begin_ms, to_ms=end_ms),
        estimate=_estimate(frame, "power", float(power["energy_j"].sum()) / J_PER_KWH),
    )


def _of_steps(frame: pd.DataFrame) -> RunData:
    return RunData(
        run=_run(frame, "steps", 0, 0),
        sensors=(),
        level_s=1,
        power=pd.DataFrame({"device": [], "start": [], "power_w": []}),
        steps=_steps(frame),
        events=(),
        kwh_by_hour={},
        curve=EnergyCurve((0,), (0.0,)),
        estimate=_estimate(frame, "steps", None),
    )


def _steps(frame: pd.DataFrame) -> pd.DataFrame:
    steps = frame.reindex(columns=list(_STEPS)).reset_index(drop=True)
    if "step" not in frame.columns:
        steps["step"] = np.arange(1, len(steps) + 1)
    if "time" not in frame.columns:
        steps["time"] = pd.to_datetime(pd.Series([None] * len(steps)), utc=True)
    steps["steps"] = steps["steps"].fillna(1)
    for name in ("loss", "tokens", "tokens_per_s"):
        steps[name] = steps[name].astype(float)
    finite = np.isfinite(steps["loss"])
    steps["not_finite"] = (~finite).astype(int)
    steps["loss"] = steps["loss"].where(finite)
    for name in ("loss_min", "loss_max"):
        steps[name] = steps[name].astype(float).fillna(steps["loss"])
    return steps


def _column(frame: pd.DataFrame, name: str, default: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return frame[name].to_numpy(dtype=float) if name in frame.columns else default


def _run(frame: pd.DataFrame, default: str, begin_ms: int, end_ms: int) -> Run:
    return Run(
        id="",
        name=str(frame.attrs.get("name", default)),
        project=None,
        tags={},
        command=(),
        cwd="",
        user="",
        git_commit=None,
        git_dirty=None,
        started_ms=begin_ms,
        ended_ms=end_ms,
        status=Status.COMPLETED,
        exit_code=None,
        facility={},
        model={},
    )


def _sensor(name: str) -> Sensor:
    return Sensor(
        uuid=name,
        kind="device",
        name=name,
        rated_power_w=None,
        power_limit_w=None,
        mig_parent=None,
        host="",
        meter="",
        quality="",
        field="",
        scope="",
        update_period_ms=None,
        share=1.0,
    )


def _estimate(frame: pd.DataFrame, default: str, energy_kwh: float | None) -> Estimate:
    """No factors: where and when the energy of a frame was used is unknown."""
    label = str(frame.attrs.get("name", default))
    return Estimate(label=label, method=Method.MEASURED, factors=None, energy_kwh=energy_kwh)
