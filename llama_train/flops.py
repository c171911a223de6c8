"""Floating-point operations per token, and the share of a device's peak that a training uses.

MFU means nothing without its N, its formula and its peak, so each is always printed with it.
"""

from __future__ import annotations

from functools import cache

from carbontrack import CarbontrackError, hardware
from llama_train.config import ModelShape

GIB = 2**30

MFU_FORMULA = "6(N-E)+12LdT"
"""N all parameters, E those of the input embedding (a look-up, no multiplication), L layers, d the
width, T context, or the length of what is computed instead: full attention, masked pairs and
padding too, recomputation not counted, as torchtitan and most published figures count."""


def flops_per_token(shape: ModelShape) -> float:
    """Forward and backward of one token in a sequence of `context` tokens, by MFU_FORMULA."""
    attention = 12 * shape.n_layers * shape.dim * shape.context
    return 6 * (shape.parameters - shape.vocab_size * shape.dim) + attention


@cache
def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 of a device, by its data sheet; None if unknown."""
    try:
        return hardware(device_name).peak_bf16_flops
    except CarbontrackError:
        return None


def mfu(shape: ModelShape, tokens_per_s: float, device_name: str) -> float | None:
    """Model FLOP utilisation of one device; None for a device of unknown peak."""
    peak = peak_flops(device_name)
    return None if peak is None else tokens_per_s * flops_per_token(shape) / peak
