"""What a training would take: memory, FLOPs, GPU-hours, energy, carbon, money. All estimates.

Pure arithmetic on a configuration; no device is needed and nothing is allocated.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import carbontrack
from carbontrack import CarbontrackError
from llama_train.config import Checkpointing, Config, layout
from llama_train.errors import TrainError
from llama_train.flops import GIB, MFU_FORMULA, flops_per_token, peak_flops
from llama_train.presets import published

REPORT_DEVICE = "NVIDIA A100-SXM4-80GB"  # of the Llama 2 report, section 2.2.1
ASSUMED_MFU = 0.40  # a usual one, for a model whose published hours imply none


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator."""

    name: str
    peak_flops: float
    """Dense bfloat16 without sparsity."""
    memory_bytes: float | None
    power_w: float | None


def device(
    name: str, *, peak_tflops: float | None = None, memory_gib: float | None = None
) -> Device:
    """By its data sheet, or by what is given. Raises TrainError if its peak is in neither."""
    for option, value in (("--peak", peak_tflops), ("--memory", memory_gib)):
        if value is not None and not 0 < value < math.inf:
            raise TrainError(f"{option} is {value}; it must be above 0.")
    peak = None if peak_tflops is None else peak_tflops * 1e12
    memory = None if memory_gib is None else memory_gib * GIB
    try:
        found = carbontrack.hardware(name)
    except CarbontrackError as error:
        if peak is None:
            raise TrainError(f"{error} Or give --peak.") from error
        return Device(name=name, peak_flops=peak, memory_bytes=memory, power_w=None)
    peak = peak or found.peak_bf16_flops
    if peak is None:
        raise TrainError(f"No bfloat16 peak of {found.name} is published.", hint="Give --peak.")
    return Device(
        name=found.name,
        peak_flops=peak,
        memory_bytes=memory or found.memory_bytes,
        power_w=found.rated_power_w,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one GPU at the worst moment of a step."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    """Layers in bfloat16 while they are computed, and their gradients before the reduction."""
    activations: float
    logits: float

    @property
    def state(self) -> float:
        """Memory that does not depend on the batch."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        return self.state + self.gathered + self.activations + self.logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The estimate, with its factors."""

    preset: str
    parameters: int
    tokens: int
    gpus: int
    device: str
    device_memory_bytes: float | None
    memory: dict[Checkpointing, Memory]
    flops_per_token: float
    formula: str
    mfu: float
    tokens_per_s_per_gpu: float
    gpu_hours: float
    days: float
    energy_kwh: float
    facility_kwh: float
    tco2e: float
    cost: float | None
    power_w: float
    pue: float
    intensity_kg_per_kwh: float
    published_gpu_hours: int | None
    published_tco2e: float | None
    implied_mfu: float | None
    """What the published GPU-hours on A100 come to, by the same formula."""
    assumed: dict[str, str]
    """The factors that were not given, each with its origin."""
    layout_fault: str | None
    """Why the batch or the model cannot be divided among so many GPUs; None if they can."""


def plan(
    config: Config,
    *,
    gpus: int,
    device: Device,
    mfu: float | None = None,
    power_w: float | None = None,
    pue: float | None = None,
    intensity: float | None = None,
    price: float | None = None,
) -> Plan:
    """Estimate a training. `price` is per GPU-hour, `intensity` in kgCO2e/kWh.

    Without `mfu` it is what the published hours of the preset imply, else 40 %. Raises TrainError
    for numbers out of range.
    """
    if gpus < 1:
        raise TrainError(f"--gpus is {gpus}; it must be at least 1.")
    report, implied = published(config.name), implied_mfu(config)
    assumed = {}
    if mfu is None:
        mfu = implied or ASSUMED_MFU
        assumed["mfu"] = "what the published hours imply" if implied else "a usual one"
    if not 0 < mfu <= 1:
        raise TrainError(f"--mfu is {mfu}; it must be above 0 and at most 1.")
    if power_w is None:
        power_w, assumed["power"] = device.power_w, "rated power"
        if report is not None and device.name == REPORT_DEVICE:
            power_w, assumed["power"] = report.power_w, "the report's"
    if power_w is None:
        raise TrainError(f"No rated power of {device.name} is known.", hint="Give --power.")
    for name, given in (("pue", pue), ("intensity", intensity)):
        if given is None:  # `carbontrack.estimate` then takes the report's
            assumed[name] = "the report's"

    rate = device.peak_flops * mfu / flops_per_token(config.model)
    hours = config.tokens / rate / 3600
    try:
        estimate = carbontrack.estimate(
            hours, power_w=power_w, pue=pue, intensity=intensity, price_per_gpu_hour=price
        )
    except CarbontrackError as error:
        raise TrainError(str(error)) from error
    assert estimate.energy_kwh is not None
    assert estimate.facility_kwh is not None
    assert estimate.pue is not None
    assert estimate.intensity_kg_per_kwh is not None
    assert estimate.tco2e is not None
    return Plan(
        preset=config.name,
        parameters=config.model.parameters,
        tokens=config.tokens,
        gpus=gpus,
        device=device.name,
        device_memory_bytes=device.memory_bytes,
        memory={choice: memory(config, gpus, choice) for choice in get_args(Checkpointing)},
        flops_per_token=flops_per_token(config.model),
        formula=MFU_FORMULA,
        mfu=mfu,
        tokens_per_s_per_gpu=rate,
        gpu_hours=hours,
        days=hours / gpus / 24,
        energy_kwh=estimate.energy_kwh,
        facility_kwh=estimate.facility_kwh,
        tco2e=estimate.tco2e,
        cost=None if price is None else estimate.cost,
        power_w=power_w,
        pue=estimate.pue,
        intensity_kg_per_kwh=estimate.intensity_kg_per_kwh,
        published_gpu_hours=round(report.gpu_hours) if report else None,
        published_tco2e=report.tco2e if report else None,
        implied_mfu=implied,
        assumed=assumed,
        layout_fault=_layout_fault(config, gpus),
    )


def _layout_fault(config: Config, gpus: int) -> str | None:
    try:
        layout(config, gpus)
    except TrainError as error:
        return str(error)
    return None


def implied_mfu(config: Config) -> float | None:
    """The MFU of the report's own training: its tokens, GPU-hours, and the A100's peak."""
    report, peak = published(config.name), peak_flops(REPORT_DEVICE)
    if report is None or peak is None:
        return None
    rate = report.tokens / report.gpu_hours / 3600
    return rate * flops_per_token(config.model) / peak


def measured_mfu(folder: Path) -> float:
    """The median MFU of the steps that a run logged in this folder. Raises TrainError if none is.

    The median leaves out what compiling, saving and evaluating cost now and then.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise TrainError(
            f"{path} cannot be read: {error}.", hint="Give the --out folder of a run."
        ) from error
    known = [float(line["mfu"]) for line in lines if line.get("mfu")]
    if not known:
        raise TrainError(
            f"{path} has no MFU: the peak of its device is unknown.", hint="Give --mfu."
        )
    return statistics.median(known)


def memory(config: Config, gpus: int, checkpointing: Checkpointing) -> Memory:
    """Float32 weights, gradients and two moments, sharded; compute in bfloat16.

    What autograd keeps of a block is counted from the model's own operations (compiled, so that
    norms and SiLU keep only their inputs); allocator overhead is not in it.
    """
    shape, tensor = config.model, config.parallel.tensor
    per_rank = shape.parameters * config.parallel.replicate / gpus
    ends = (shape.vocab_size + shape.outputs) * shape.dim + shape.dim
    block = shape.parameters_per_layer
    # The embedding and output stay gathered; of the blocks one is in use and one on its way. The
    # gradient of the one just done waits, in bfloat16 and, for the reduction, in float32.
    gathered = (2 * ends + 2 * 2 * block + (2 + 4) * block) / tensor

    # Without an exchange after each micro-batch the sum of several is that of the whole model.
    sequences = config.train.batch_size * config.parallel.tensor // gpus
    deferred = config.parallel.sync_gradients == "last" and sequences > config.train.micro_batch
    gradients = 4 * shape.parameters / tensor if deferred else 4 * per_rank

    tokens = config.train.micro_batch * shape.context
    d, f, kv = shape.dim, shape.ffn_dim, shape.n_kv_heads * shape.head_dim
    everything = 6 * d + 2 * kv + 3 * f
    kept = {"none": everything, "selective": 4 * d + kv + f, "full": d}[checkpointing]
    again = 0 if checkpointing == "none" else everything
    activations = 2 * tokens * (shape.n_layers * kept + again) / tensor
    # Float32 logits and their gradient, of one chunk.
    logits = 2 * 4 * tokens * shape.vocab_size / config.train.loss_chunks
    return Memory(
        weights=4 * per_rank,
        gradients=gradients,
        optimizer=8 * per_rank,
        gathered=gathered,
        activations=activations,
        logits=logits,
    )


def as_json(result: Plan) -> str:
    """The whole plan; each memory also with its total and whether it fits."""
    data = asdict(result)
    for choice, part in result.memory.items():
        data["memory"][choice] |= {"total": part.total, "fits": _fits(result, part)}
    return json.dumps(data, indent=2)


def as_text(result: Plan) -> str:
    """The plan for people. Every figure is an estimate; assumed factors are marked."""
    assumed = {name: f" (assumed: {origin})" for name, origin in result.assumed.items()}
    there = result.device_memory_bytes
    rows = {
        "FLOPs per token": f"{result.flops_per_token:.4g}  ({result.formula})",
        "MFU": f"{result.mfu:.1%}{assumed.get('mfu', '')}",
        "Tokens/s per GPU": f"{result.tokens_per_s_per_gpu:,.0f}",
        "GPU-hours": f"{result.gpu_hours:,.0f}  ({result.days:,.1f} days)",
        "Energy": f"{result.energy_kwh:,.0f} kWh at {result.power_w:,.0f} W"
        f"{assumed.get('power', '')}",
        "Facility": f"{result.facility_kwh:,.0f} kWh at PUE {result.pue:g}{assumed.get('pue', '')}",
        "Carbon": f"{result.tco2e:,.2f} tCO2e at {result.intensity_kg_per_kwh:g} kg/kWh"
        f"{assumed.get('intensity', '')}",
    }
    if result.cost is not None:
        rows["Cost"] = f"{result.cost:,.0f}, in the currency of the price"
    if result.implied_mfu is not None:
        rows["Published"] = (
            f"{result.published_gpu_hours:,} GPU-hours on A100-80GB, which imply an MFU of "
            f"{result.implied_mfu:.1%}; {result.published_tco2e:,} tCO2e"
        )
    if result.layout_fault is not None:
        rows["Layout"] = f"cannot be trained so: {result.layout_fault}"
    return "\n".join(
        [
            f"{result.preset}: {result.parameters:,} parameters, {result.tokens:,} tokens on "
            f"{result.gpus:,} × {result.device} (estimate)",
            "",
            f"Memory per GPU, of {'?' if there is None else f'{there / GIB:.0f}'} GiB, by "
            "checkpointing:",
            *(_memory_row(result, choice, part) for choice, part in result.memory.items()),
            "",
            *(f"{name:<18}{value}" for name, value in rows.items()),
        ]
    )


def _memory_row(result: Plan, choice: str, part: Memory) -> str:
    parts = "  ".join(f"{name} {size / GIB:.1f}" for name, size in asdict(part).items())
    verdict = {True: "fits", False: "does not fit", None: ""}[_fits(result, part)]
    return f"  {choice:<10} {part.total / GIB:7.1f} GiB  {verdict:<13} {parts}"


def _fits(result: Plan, part: Memory) -> bool | None:
    """None if the memory of the device is unknown."""
    there = result.device_memory_bytes
    return None if there is None else part.total <= there
