"""Text from a model: many prompts at once, token by token with a cache of keys and values.

Prompts of about one length share a batch, in which nothing is padded or masked: it begins with as
many tokens as the shortest has, and goes on by one, which a longer prompt gives itself. What is
drawn follows from each prompt's key alone, not from the batch that it is in or the rank that
computes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from llama_train.errors import TrainError
from llama_train.model import Transformer
from llama_train.wording import counted

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
                f"A prompt of {counted(len(prompt), 'token')} and {count} more do not fit in the "
                f"model's context of {model.shape.context}."
            )
    keys = keys or [str(number) for number in range(len(prompts))]
    answers: list[list[int]] = [[] for _ in prompts]
    device, rank = model.rope.device, dist.get_rank() if ranks > 1 else 0
    for numbers in _batches([len(prompt) for prompt in prompts], count, MAX_BATCH * ranks):
        # Every rank computes equally often: a share is filled up with the batch's last prompt.
        share = -(-len(numbers) // ranks)
        own = [numbers[min(rank * share + i, len(numbers) - 1)] for i in range(share)]
        tokens = _continue(
            model,
            [prompts[number] for number in own],
            _draws([keys[number] for number in own], count).to(device) if temperature else None,
            shortest=len(prompts[numbers[0]]),
            longest=len(prompts[numbers[-1]]),
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


def _batches(lengths: Sequence[int], spread: int, most: int) -> Iterator[list[int]]:
    """Numbers of prompts by length, up to `most` at once that differ by at most `spread` tokens."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == most or lengths[number] > lengths[batch[0]] + spread):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _draws(keys: Sequence[str], count: int) -> Tensor:
    """Uniform numbers in [0, 1) for each key and token: (keys, count)."""
    rows = []
    for key in keys:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
        rows.append(torch.rand(count, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(rows)


def _continue(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    draws: Tensor | None,
    *,
    shortest: int,
    longest: int,
    count: int,
    temperature: float,
    top_p: float,
    stop: int | None,
    ranks: int,
) -> Tensor:
    """What follows each of B prompts (B, count), `stop` after the first stop.

    All ranks' prompts have from `shortest` to `longest` tokens.
    """
    device, fill = model.rope.device, 0 if stop is None else stop
    tokens = torch.full((len(prompts), longest + count), fill)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    tokens = tokens.to(device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    cache = model.new_cache(longest + count)
    inputs = tokens[:, :shortest]
    for at in range(shortest, longest + count):
        logits = model(inputs, cache=cache, last_only=True)[:, 0]
        place = at - lengths  # in the answer; below 0, the prompt goes on
        drawn = None
        if draws is not None:
            drawn = draws.gather(1, place.clamp(0, count - 1)[:, None])[:, 0]
        token = _choose(logits, drawn, temperature, top_p).masked_fill(done, fill)
        token = torch.where(place < 0, tokens[:, at], token)
        tokens[:, at] = token
        done |= (place == count - 1) | ((place >= 0) & (token == stop))
        left = (~done).sum()
        if ranks > 1:
            dist.all_reduce(left)
        if not left:
            break
        inputs = token[:, None]
    return tokens.gather(1, lengths[:, None] + torch.arange(count, device=device))


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
