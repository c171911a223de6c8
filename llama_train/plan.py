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

from llama_train.config import Checkpointing, Config, layout
from llama_train.errors import TrainError
from llama_train.flops import DEVICES, GIB, MFU_FORMULA, flops_per_token
from llama_train.presets import PUBLISHED

# The factors of the Llama 2 report (section 2.2.1, with PUE and intensity of Wu et al. 2022).
REPORT_PUE = 1.1
REPORT_INTENSITY_KG_PER_KWH = 0.385
REPORT_DEVICE = "NVIDIA A100-SXM4-80GB"
ASSUMED_MFU = 0.40


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
        """What stays all the time, whatever the batch."""
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
    device_memory_bytes: float
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
    """The factors that nobody chose, each with where it comes from."""


def plan(
    config: Config,
    *,
    gpus: int,
    device_name: str,
    mfu: float | None = None,
    power_w: float | None = None,
    pue: float | None = None,
    intensity: float | None = None,
    price: float | None = None,
) -> Plan:
    """Estimate a training. `price` is per GPU-hour, `intensity` in kgCO2e/kWh.

    Without `mfu` it is what the published hours of the preset imply, else 40 %. Raises TrainError
    for an unknown device or numbers out of range.
    """
    if device_name not in DEVICES:
        raise TrainError(
            f"No peak is known of {device_name!r}.", hint=f"Known: {', '.join(DEVICES)}."
        )
    _check(gpus, mfu, power_w, pue, intensity, price)
    layout(config, gpus)
    device = DEVICES[device_name]
    published = PUBLISHED.get(config.name)
    implied = implied_mfu(config)
    assumed = {}
    if mfu is None:
        mfu = implied or ASSUMED_MFU
        assumed["mfu"] = "what the published hours imply" if implied else "a usual one"
    if power_w is None:
        power_w, assumed["power"] = device.power_w, "rated power"
        if published is not None and device_name == REPORT_DEVICE:
            power_w, assumed["power"] = published.power_w, "the report's"
    if pue is None:
        pue, assumed["pue"] = REPORT_PUE, "the report's"
    if intensity is None:
        intensity, assumed["intensity"] = REPORT_INTENSITY_KG_PER_KWH, "the report's"

    rate = device.peak_flops * mfu / flops_per_token(config.model)
    hours = config.tokens / rate / 3600
    energy = hours * power_w / 1000
    return Plan(
        preset=config.name,
        parameters=config.model.parameters,
        tokens=config.tokens,
        gpus=gpus,
        device=device_name,
        device_memory_bytes=device.memory_bytes,
        memory={choice: memory(config, gpus, choice) for choice in get_args(Checkpointing)},
        flops_per_token=flops_per_token(config.model),
        formula=MFU_FORMULA,
        mfu=mfu,
        tokens_per_s_per_gpu=rate,
        gpu_hours=hours,
        days=hours / gpus / 24,
        energy_kwh=energy,
        facility_kwh=energy * pue,
        tco2e=energy * pue * intensity / 1000,
        cost=None if price is None else hours * price,
        power_w=power_w,
        pue=pue,
        intensity_kg_per_kwh=intensity,
        published_gpu_hours=published.gpu_hours if published else None,
        published_tco2e=published.tco2e if published else None,
        implied_mfu=implied,
        assumed=assumed,
    )


def implied_mfu(config: Config) -> float | None:
    """The MFU of the report's own training: its tokens, GPU-hours, and the A100's peak."""
    published = PUBLISHED.get(config.name)
    if published is None:
        return None
    rate = published.tokens / published.gpu_hours / 3600
    return rate * flops_per_token(config.model) / DEVICES[REPORT_DEVICE].peak_flops


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
            f"{path} has no MFU: the peak of its device is not known.", hint="Give --mfu."
        )
    return statistics.median(known)


def memory(config: Config, gpus: int, checkpointing: Checkpointing) -> Memory:
    """Float32 weights, gradients and two moments, sharded; compute in bfloat16.

    What autograd keeps of a block is counted from the model's own operations (compiled, so that
    norms and SiLU keep only their inputs); allocator overhead is not in it.
    """
    shape, tensor = config.model, config.parallel.tensor
    per_rank = shape.parameters * config.parallel.replicate / gpus
    ends = 2 * shape.vocab_size * shape.dim + shape.dim
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


def _check(
    gpus: int,
    mfu: float | None,
    power_w: float | None,
    pue: float | None,
    intensity: float | None,
    price: float | None,
) -> None:
    limits = {
        "--gpus": (gpus, 1, math.inf),
        "--mfu": (mfu, 1e-6, 1),
        "--power": (power_w, 0, math.inf),
        "--pue": (pue, 1, math.inf),
        "--intensity": (intensity, 0, math.inf),
        "--price": (price, 0, math.inf),
    }
    for name, (value, least, most) in limits.items():
        if value is not None and not least <= value <= most:
            raise TrainError(f"{name} is {value}; it must be {least:g} to {most:g}.")


def as_json(result: Plan) -> str:
    """The whole plan; each memory also with its total and whether it fits."""
    data = asdict(result)
    for choice, part in result.memory.items():
        data["memory"][choice] |= {"total": part.total, "fits": _fits(result, part)}
    return json.dumps(data, indent=2)


def as_text(result: Plan) -> str:
    """The plan for people. Every figure is an estimate and says what was assumed."""

    def mark(name: str) -> str:
        return f" (assumed: {result.assumed[name]})" if name in result.assumed else ""

    lines = [
        f"{result.preset}: {result.parameters:,} parameters, {result.tokens:,} tokens "
        f"on {result.gpus:,} × {result.device} (estimate)",
        "",
        f"Memory per GPU, of {result.device_memory_bytes / GIB:.0f} GiB, by checkpointing:",
    ]
    for choice, part in result.memory.items():
        parts = "  ".join(f"{name} {size / GIB:.1f}" for name, size in asdict(part).items())
        verdict = "fits" if _fits(result, part) else "does not fit"
        lines.append(f"  {choice:<10} {part.total / GIB:7.1f} GiB  {verdict:<13} {parts}")
    lines += [
        "",
        f"FLOPs per token   {result.flops_per_token:.4g}  ({result.formula})",
        f"MFU               {result.mfu:.1%}{mark('mfu')}",
        f"Tokens/s per GPU  {result.tokens_per_s_per_gpu:,.0f}",
        f"GPU-hours         {result.gpu_hours:,.0f}  ({result.days:,.1f} days)",
        f"Energy            {result.energy_kwh:,.0f} kWh at {result.power_w:,.0f} W{mark('power')}",
        f"Facility          {result.facility_kwh:,.0f} kWh at PUE {result.pue:g}{mark('pue')}",
        f"Carbon            {result.tco2e:,.2f} tCO2e at {result.intensity_kg_per_kwh:g} kg/kWh"
        f"{mark('intensity')}",
    ]
    if result.cost is not None:
        lines.append(f"Cost              {result.cost:,.0f}, in the currency of the price")
    if result.implied_mfu is not None:
        lines.append(
            f"Published         {result.published_gpu_hours:,} GPU-hours on A100-80GB, which imply "
            f"an MFU of {result.implied_mfu:.1%}; {result.published_tco2e:,} tCO2e"
        )
    return "\n".join(lines)


def _fits(result: Plan, part: Memory) -> bool:
    return part.total <= result.device_memory_bytes
