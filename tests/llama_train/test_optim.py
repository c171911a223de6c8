"""The learning rate at its corners, what decays, and clipping."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llama_train.config import ModelShape, Train
from llama_train.model import Transformer
from llama_train.optim import adamw, clip_gradients, learning_rate, squared_norm
from llama_train.presets import preset


def test_the_schedule_of_the_7b() -> None:
    train = preset("llama2-7b").train
    assert learning_rate(0, train) == 0
    assert learning_rate(1999, train) == pytest.approx(3e-4 * 1999 / 2000)
    assert learning_rate(2000, train) == pytest.approx(3e-4)
    middle = (2000 + train.steps) / 2
    assert learning_rate(round(middle), train) == pytest.approx(3e-4 * 0.55, rel=1e-4)
    assert learning_rate(train.steps, train) == pytest.approx(3e-5)


@given(
    steps=st.integers(1, 500),
    warmup=st.integers(0, 600),
    lr=st.floats(1e-6, 1.0),
    ratio=st.just(0.0) | st.floats(1e-6, 1.0),
)
def test_the_rate_rises_to_the_peak_then_falls_to_the_floor(
    steps: int, warmup: int, lr: float, ratio: float
) -> None:
    train = Train(steps=steps, warmup_steps=warmup, lr=lr, min_lr_ratio=ratio)
    rates = [learning_rate(step, train) for step in range(1, steps + 1)]
    assert all(0 < rate <= lr * (1 + 1e-12) or ratio == 0 for rate in rates)
    rising, falling = rates[: min(warmup, steps)], rates[max(0, warmup - 1) :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if warmup < steps:
        assert rates[-1] == pytest.approx(lr * ratio, abs=1e-12 * lr)


def test_matrices_decay_and_norms_do_not(tiny: ModelShape) -> None:
    model = Transformer(tiny)
    decayed, kept = adamw(model, Train(steps=1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0
    assert len(kept["params"]) == 2 * tiny.n_layers + 1
    assert len(decayed["params"]) == 7 * tiny.n_layers + 2


@pytest.mark.parametrize("limit", [0.5, 1e9])
def test_clipping_is_torchs(limit: float) -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.empty(n)) for n in (3, 40, 7)] for _ in range(2))
    for a, b in zip(ours, theirs, strict=True):
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    norm = squared_norm(ours).sqrt()
    clip_gradients(ours, norm.item(), limit)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs, limit))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
