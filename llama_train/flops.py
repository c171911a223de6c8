"""Floating-point operations per token, by named formula, and what devices can do at most.

MFU means nothing without its N, its formula and its peak, so each is always printed with it. In the
formulas N counts all parameters, E those of the input embedding (a look-up, no multiplication),
L layers, d model width, T context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llama_train.config import ModelShape


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

# Dense bfloat16 with float32 accumulation, without sparsity, from NVIDIA's data sheets.
PEAK_FLOPS: Mapping[str, float] = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "NVIDIA A10G": 70e12,
    "Tesla V100-SXM2-32GB": 125e12,
}


def flops_per_token(shape: ModelShape, formula: str = MFU_FORMULA) -> float:
    """Forward and backward of one token in a sequence of `context` tokens."""
    return FORMULAS[formula](shape)


def mfu(shape: ModelShape, tokens_per_s: float, device_name: str) -> float | None:
    """Model FLOP utilisation of one device by MFU_FORMULA; None for a device of unknown peak."""
    peak = PEAK_FLOPS.get(device_name)
    return tokens_per_s * flops_per_token(shape) / peak if peak else None
