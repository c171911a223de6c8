"""PPO's formulas: the losses of a token, and how much better an answer was than expected.

Schulman et al. 2016 (generalised advantage estimation) and 2017 (PPO).
"""

from __future__ import annotations

import torch
from torch import Tensor

from llama_train.model import Transformer


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - ε, 1 + ε) A) of each token, r = exp(new - old) (Schulman et al. 2017).

    `new` and `old` are log-probabilities.
    """
    ratio = (new - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, returns: Tensor) -> Tensor:
    """½ (V - R)² of each token."""
    return 0.5 * (values - returns).square()


def estimate_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantages (Schulman et al. 2016) and returns, each (N, T); 0 out of the mask.

    δ_t = r_t + γ V_{t+1} - V_t, A_t = δ_t + γ λ A_{t+1}, R_t = A_t + V_t. A sequence ends with its
    mask: what comes after is worth nothing.
    """
    rewards, values = rewards * mask, values * mask
    following, last = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    advantages = torch.zeros_like(values)
    for at in reversed(range(values.shape[1])):
        delta = rewards[:, at] + discount * following - values[:, at]
        last = (delta + discount * gae_lambda * last) * mask[:, at]
        advantages[:, at] = last
        following = values[:, at]
    return advantages, advantages + values


def whiten(values: Tensor) -> Tensor:
    """Mean 0 and deviation 1."""
    return (values - values.mean()) / (values.std(correction=0) + 1e-8)


def log_probabilities(model: Transformer, tokens: Tensor) -> Tensor:
    """Of each token but the first: (N, T) → (N, T - 1)."""
    logits: Tensor = model(tokens[:, :-1])
    return logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
