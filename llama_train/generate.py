"""Text from a model: many prompts at once, token by token with a cache of keys and values.

Prompts of one length share a batch, so that nothing is padded or masked. What is drawn follows
from each prompt's key alone, not from the batch that it is in or the rank that computes it.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from llama_train.errors import TrainError
from llama_train.model import Transformer

MAX_BATCH = 256
"""Sequences that a rank continues at once."""


@torch.no_grad()
def sample(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    keys: Sequence[str] | None = None,
    stop: int | None = None,
    ranks: int = 1,
) -> list[list[int]]:
    """Up to `count` tokens after each prompt, the last of them `stop` if that came.

    Greedy at temperature 0; else a prompt's `key` decides what is drawn. With several ranks each
    calls this alike, computes its share and returns all. Raises TrainError if a prompt and `count`
    are longer than the model's context, or for an invalid temperature.
    """
    if not 0 <= temperature < math.inf:
        raise TrainError(f"The temperature is {temperature}; it must be a number from 0 on.")
    for prompt in prompts:
        if not prompt or len(prompt) + count > model.shape.context:
            raise TrainError(
                f"A prompt of {len(prompt)} tokens and {count} more do not fit in the model's "
                f"context of {model.shape.context}."
            )
    keys = keys or [str(number) for number in range(len(prompts))]
    answers: list[list[int]] = [[] for _ in prompts]
    device, rank = model.rope.device, dist.get_rank() if ranks > 1 else 0
    for numbers in _buckets(prompts, MAX_BATCH * ranks):
        # Every rank computes equally often: a share is filled up with the bucket's last prompt.
        share = -(-len(numbers) // ranks)
        own = [numbers[min(rank * share + i, len(numbers) - 1)] for i in range(share)]
        tokens = _continue(
            model,
            torch.tensor([list(prompts[number]) for number in own], device=device),
            _draws([keys[number] for number in own], count).to(device) if temperature else None,
            count=count,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            ranks=ranks,
        )
        if ranks > 1:
            parts = [torch.empty_like(tokens) for _ in range(ranks)]
            dist.all_gather(parts, tokens)
            tokens = torch.cat(parts)
        for number, answer in zip(numbers, tokens.tolist(), strict=False):
            end = answer.index(stop) + 1 if stop in answer else count
            answers[number] = answer[:end]
    return answers


def _buckets(prompts: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """The numbers of prompts that have the same length, up to `most` at once."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt)].append(number)
    for _, numbers in sorted(by_length.items()):
        yield from (numbers[at : at + most] for at in range(0, len(numbers), most))


def _draws(keys: Sequence[str], count: int) -> Tensor:
    """Uniform numbers in [0, 1) for each key and token: (keys, count)."""
    rows = []
    for key in keys:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
        rows.append(torch.rand(count, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(rows)


def _continue(
    model: Transformer,
    inputs: Tensor,
    draws: Tensor | None,
    *,
    count: int,
    temperature: float,
    top_p: float,
    stop: int | None,
    ranks: int,
) -> Tensor:
    """Prompts of one length (B, T) → what follows them (B, count), `stop` after the first stop."""
    cache = model.new_cache(inputs.shape[1] + count)
    fill = 0 if stop is None else stop
    answers = torch.full((len(inputs), count), fill, device=inputs.device)
    done = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
    for at in range(count):
        logits = model(inputs, cache=cache)[:, -1]
        drawn = None if draws is None else draws[:, at]
        token = _choose(logits, drawn, temperature, top_p).masked_fill(done, fill)
        answers[:, at] = token
        if stop is not None:
            done |= token == stop
            left = (~done).sum()
            if ranks > 1:
                dist.all_reduce(left)
            if not left:
                break
        inputs = token[:, None]
    return answers


def _choose(logits: Tensor, drawn: Tensor | None, temperature: float, top_p: float) -> Tensor:
    """The likeliest token of each row (B, V), or one drawn from the fewest that hold `top_p`.

    The token is where the cumulated probability passes the drawn share of it.
    """
    if drawn is None:
        return logits.argmax(-1)
    shares = (logits / temperature).softmax(-1)
    if top_p < 1:
        best, order = shares.sort(descending=True)
        best[best.cumsum(-1) - best > top_p] = 0
        shares = torch.zeros_like(shares).scatter(-1, order, best)
    ends = shares.cumsum(-1)
    place = (ends <= drawn[:, None] * ends[:, -1:]).sum(-1)
    return place.clamp(max=logits.shape[-1] - 1)
