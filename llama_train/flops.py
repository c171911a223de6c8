"""Floating-point operations per token, by named formula, and what devices can do at most.

MFU means nothing without its N, its formula and its peak, so each is always printed with it. In the
formulas N counts all parameters, E those of the input embedding (a look-up, no multiplication),
L layers, d model width, T context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llama_train.config import ModelShape

GIB = 2**30


def _attention(shape: ModelShape) -> int:
    """12·L·d·T: scores and weighted sum, forward and backward, of every pair, masked ones too."""
    return 12 * shape.n_layers * shape.dim * shape.context


def _embedding(shape: ModelShape) -> int:
    return shape.vocab_size * shape.dim


FORMULAS: Mapping[str, Callable[[ModelShape], float]] = {
    # Kaplan et al. 2020.
    "6N": lambda shape: 6 * shape.parameters,
    # torchtitan and most published figures: full attention, recomputation not counted.
    "6(N-E)+12LdT": lambda shape: 6 * (shape.parameters - _embedding(shape)) + _attention(shape),
    # Chowdhery et al. 2022 (PaLM), appendix B; also nanoGPT.
    "6N+12LdT": lambda shape: 6 * shape.parameters + _attention(shape),
    # Only the pairs that the causal mask leaves.
    "6(N-E)+6LdT": lambda shape: 6 * (shape.parameters - _embedding(shape)) + _attention(shape) / 2,
}

MFU_FORMULA = "6(N-E)+12LdT"


@dataclass(frozen=True, slots=True)
class Device:
    """What its maker says of a device: dense bfloat16 without sparsity, memory, board power."""

    peak_flops: float
    memory_bytes: float
    power_w: float


# NVIDIA's data sheets.
DEVICES: Mapping[str, Device] = {
    "NVIDIA A100-SXM4-40GB": Device(312e12, 40 * GIB, 400),
    "NVIDIA A100-SXM4-80GB": Device(312e12, 80 * GIB, 400),
    "NVIDIA A100-PCIE-40GB": Device(312e12, 40 * GIB, 250),
    "NVIDIA A100 80GB PCIe": Device(312e12, 80 * GIB, 300),
    "NVIDIA H100 80GB HBM3": Device(989e12, 80 * GIB, 700),
    "NVIDIA H100 PCIe": Device(756e12, 80 * GIB, 350),
    "NVIDIA H200": Device(989e12, 141e9, 700),
    "NVIDIA L40S": Device(362e12, 48 * GIB, 350),
    "NVIDIA L4": Device(121e12, 24 * GIB, 72),
    "NVIDIA A10G": Device(70e12, 24 * GIB, 300),
    "Tesla V100-SXM2-32GB": Device(125e12, 32 * GIB, 300),
}


def flops_per_token(shape: ModelShape, formula: str = MFU_FORMULA) -> float:
    """Forward and backward of one token in a sequence of `context` tokens."""
    return FORMULAS[formula](shape)


def mfu(shape: ModelShape, tokens_per_s: float, device_name: str) -> float | None:
    """Model FLOP utilisation of one device by MFU_FORMULA; None for a device of unknown peak."""
    device = DEVICES.get(device_name)
    return tokens_per_s * flops_per_token(shape) / device.peak_flops if device else None
