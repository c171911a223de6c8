"""Text from a model, token by token with a cache of keys and values: to see what it has learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from llama_train.errors import TrainError
from llama_train.model import Transformer


@torch.inference_mode()
def generate(
    model: Transformer,
    prompt: list[int],
    *,
    count: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: int | None = None,
) -> Iterator[int]:
    """Up to `count` tokens after the prompt; greedy at temperature 0; ends before `stop`.

    Raises TrainError if prompt and count are longer than the model's context, or for an invalid
    temperature.
    """
    if not 0 <= temperature < math.inf:
        raise TrainError(f"The temperature is {temperature}; it must be a number from 0 on.")
    if not prompt or len(prompt) + count > model.shape.context:
        raise TrainError(
            f"A prompt of {len(prompt)} tokens and {count} more do not fit in the model's "
            f"context of {model.shape.context}."
        )
    device = model.output.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    cache = model.new_cache(1, len(prompt) + count)
    inputs = torch.tensor([prompt], device=device)
    for _ in range(count):
        logits = model(inputs, cache=cache)[0, -1]
        token = _choose(logits, temperature, top_p, generator)
        if token == stop:
            return
        yield token
        inputs = torch.tensor([[token]], device=device)


def _choose(
    logits: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator
) -> int:
    """The likeliest token, or one drawn from the fewest that hold `top_p` of the probability."""
    if temperature == 0:
        return int(logits.argmax())
    shares, order = (logits / temperature).softmax(-1).sort(descending=True)
    shares[shares.cumsum(-1) - shares > top_p] = 0
    return int(order[torch.multinomial(shares, 1, generator=generator)])
