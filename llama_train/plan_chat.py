"""What the stages of Llama 2-Chat would take: GPU-hours, energy and carbon for the four sizes.

Nobody has published them. The counts are the report's where it gives them, and every other number
is assumed and printed as such. All are estimates of one round; the report went through five.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import carbontrack
from carbontrack import CarbontrackError
from llama_train.config import ModelShape
from llama_train.errors import TrainError
from llama_train.flops import flops_per_token
from llama_train.plan import ASSUMED_MFU, REPORT_DEVICE, Device, implied_mfu
from llama_train.presets import preset, published
from llama_train.stages import CHATS

EXAMPLES, EXAMPLE_TOKENS = 27_540, 500
PAIRS, PAIR_ANSWER_TOKENS, REWARD_MODELS = 2_919_326, 596, 2
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 27_540, 256, 512
GENERATION = 1 / 20
"""The speed of generation, in FLOP/s, to that of training."""

ASSUMED = (
    f"fine-tuning: {EXAMPLES:,} examples (the report's) of {EXAMPLE_TOKENS} tokens, two epochs",
    f"reward: {REWARD_MODELS} models, each on {PAIRS:,} pairs (the report's total; it mixed "
    f"parts of them), answers of {PAIR_ANSWER_TOKENS} tokens with their prompts (its mean)",
    f"rejection: 16 answers of {ANSWER_TOKENS} tokens to {PROMPTS:,} prompts of {PROMPT_TOKENS}, "
    "by the 70B alone, as in the report; each size learns the best",
    "PPO: 300 iterations (the report's 200 to 400) of 512 answers; generation, five forward passes "
    "to score, forward and backward of policy and critic",
    "the MFU that the published GPU-hours of each size's pretraining imply; generation at a "
    "twentieth of it",
    "kWh are of the GPUs, tCO2e with PUE and intensity, both the report's where none is given",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage of one model. All estimates."""

    model: str
    stage: str
    gpu_hours: float
    energy_kwh: float
    """Of the GPUs, before PUE."""
    tco2e: float
    of_pretraining: float
    """GPU-hours to those published of its pretraining."""


def plan_chat(
    device: Device,
    *,
    mfu: float | None = None,
    power_w: float | None = None,
    pue: float | None = None,
    intensity: float | None = None,
) -> list[StageCost]:
    """Each stage of `chat-7b` … `chat-70b`. Raises TrainError for numbers out of range."""
    if mfu is not None and not 0 < mfu <= 1:
        raise TrainError(f"--mfu is {mfu}; it must be above 0 and at most 1.")
    costs = []
    for name, chat in CHATS.items():
        report = published(chat.base)
        if report is None:
            continue
        config = preset(chat.base)
        power = power_w or (report.power_w if device.name == REPORT_DEVICE else device.power_w)
        if power is None:
            raise TrainError(f"No rated power of {device.name} is known.", hint="Give --power.")
        rate = device.peak_flops * (mfu or implied_mfu(config) or ASSUMED_MFU)
        for stage, flops in stage_flops(config.model, draws=name == "chat-70b").items():
            hours = flops / rate / 3600
            try:
                found = carbontrack.estimate(hours, power_w=power, pue=pue, intensity=intensity)
            except CarbontrackError as error:
                raise TrainError(str(error)) from error
            assert found.energy_kwh is not None
            assert found.tco2e is not None
            costs.append(
                StageCost(
                    model=name,
                    stage=stage,
                    gpu_hours=hours,
                    energy_kwh=found.energy_kwh,
                    tco2e=found.tco2e,
                    of_pretraining=hours / report.gpu_hours,
                )
            )
    return costs


def stage_flops(shape: ModelShape, *, draws: bool) -> dict[str, float]:
    """Floating-point operations of each stage, those of generation as if trained in their time.

    `draws`: rejection sampling draws its own answers, and does not only learn them.
    """
    train = flops_per_token(shape)
    forward = train / 3
    sequence = PROMPT_TOKENS + ANSWER_TOKENS
    drawing = 16 * PROMPTS * (ANSWER_TOKENS * forward / GENERATION + 2 * sequence * forward)
    answers = 300 * 512
    return {
        "finetune": 2 * EXAMPLES * EXAMPLE_TOKENS * train,
        "reward": REWARD_MODELS * PAIRS * 2 * PAIR_ANSWER_TOKENS * train,
        "rejection": draws * drawing + PROMPTS * sequence * train,
        "ppo": answers
        * (ANSWER_TOKENS * forward / GENERATION + sequence * (5 * forward + 2 * train)),
    }


def as_json(costs: Sequence[StageCost]) -> str:
    return json.dumps({"stages": [asdict(cost) for cost in costs], "assumed": ASSUMED}, indent=2)


def as_text(costs: Sequence[StageCost]) -> str:
    """A row a stage, and their sum for each model; the assumptions below."""
    lines = [
        "Llama 2-Chat, one round of each stage (estimate)",
        "",
        f"{'model':<10} {'stage':<10} {'GPU-hours':>10} {'kWh':>10} {'tCO2e':>8} "
        f"{'of pretraining':>15}",
    ]
    for model in dict.fromkeys(cost.model for cost in costs):
        own = [cost for cost in costs if cost.model == model]
        lines += [_row(cost.stage, [cost]) for cost in own]
        lines += [_row("sum", own), ""]
    return "\n".join([*lines, "Assumed:", *(f"* {line}" for line in ASSUMED)])


def _row(stage: str, costs: Sequence[StageCost]) -> str:
    hours, energy, carbon = (
        sum(getattr(cost, name) for cost in costs) for name in ("gpu_hours", "energy_kwh", "tco2e")
    )
    share = sum(cost.of_pretraining for cost in costs)
    return (
        f"{costs[0].model:<10} {stage:<10} {hours:>10,.0f} {energy:>10,.0f} {carbon:>8.2f} "
        f"{share:>15.2%}"
    )
