"""AdamW as in the report, the learning rate as a function of the step, and the gradient norm."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from llama_train.config import Train


def learning_rate(step: int, train: Train) -> float:
    """Of step 1 … steps: linear to the peak at `warmup_steps`, then a cosine to a share of it."""
    if step < train.warmup_steps:
        return train.lr * step / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    floor = train.min_lr_ratio
    return train.lr * (floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, progress))) / 2)


def adamw(model: nn.Module, train: Train) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    norms = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": train.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    betas = (train.beta1, train.beta2)
    return torch.optim.AdamW(groups, lr=train.lr, betas=betas, eps=train.eps, fused=True)


def squared_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """This rank's part of the squared 2-norm of all gradients: over all ranks they only add.

    Each rank squares what it holds; what several hold is shared among them.
    """
    by_holders: dict[int, list[Tensor]] = defaultdict(list)
    for grad in _gradients(parameters):
        by_holders[_holders(grad)].append(_local(grad))
    squares = [
        torch.nn.utils.get_total_norm(grads).square() / holders
        for holders, grads in by_holders.items()
    ]
    return torch.stack(squares).sum()


def clip_gradients(parameters: Iterable[nn.Parameter], norm: float, limit: float) -> None:
    """Scale all gradients so that their norm, which is given, is at most `limit`."""
    scale = limit / (norm + 1e-6)
    if scale < 1:
        torch._foreach_mul_([_local(grad) for grad in _gradients(parameters)], scale)


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _local(grad: Tensor) -> Tensor:
    return grad.to_local() if isinstance(grad, DTensor) else grad


def _holders(grad: Tensor) -> int:
    """How many ranks hold the same part of this gradient."""
    if not isinstance(grad, DTensor):
        return 1
    sizes = zip(grad.placements, grad.device_mesh.shape, strict=True)
    return math.prod(size for placement, size in sizes if placement.is_replicate())
