"""The model against what defines it: plain formulas, the closed forms, and its own cache."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from llama_train.config import ModelShape
from llama_train.flops import flops_per_token, mfu
from llama_train.generate import sample
from llama_train.model import IGNORE, RMSNorm, Transformer, initial_weight, rope_table, rotate


def initialised(shape: ModelShape, seed: int = 0) -> Transformer:
    model = Transformer(shape)
    weights = {
        name: initial_weight(name, parameter.shape, shape, seed, torch.device("cpu"))
        for name, parameter in model.named_parameters()
    }
    model.load_state_dict(weights)
    return model


def random_tokens(shape: ModelShape, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(shape.vocab_size, (batch, shape.context), generator=generator)


def test_the_first_loss_is_near_ln_v(tiny: ModelShape) -> None:
    tokens = random_tokens(tiny, 8)
    loss = initialised(tiny)(tokens, tokens.roll(-1, 1)) / tokens.numel()
    assert loss.item() == pytest.approx(math.log(tiny.vocab_size), abs=0.05)


def test_initial_weights_depend_on_seed_and_name_only(tiny: ModelShape) -> None:
    a, b, other = initialised(tiny), initialised(tiny), initialised(tiny, seed=1)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.output.weight, other.output.weight)
    assert not torch.equal(a.layers[0].attention.wq.weight, a.layers[1].attention.wq.weight)


def test_rms_norm_casts_back_before_it_scales() -> None:
    norm = RMSNorm(64, 1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 64))
    norm.bfloat16()
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    wide = x.double()
    expected = (
        wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    ).bfloat16() * norm.weight
    assert torch.equal(norm(x), expected)


def test_rope_turns_neighbours_by_position_times_frequency(tiny: ModelShape) -> None:
    x = torch.randn(1, 32, 4, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, rope_table(tiny, 32))
    for position in (0, 1, 31):
        for pair in (0, 3, 7):
            angle = position * 10_000.0 ** (-2 * pair / 16)
            a, b = x[0, position, 2, 2 * pair : 2 * pair + 2].tolist()
            expected = (
                a * math.cos(angle) - b * math.sin(angle),
                a * math.sin(angle) + b * math.cos(angle),
            )
            assert turned[0, position, 2, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(
                expected, abs=1e-5
            )


def test_the_compiled_form_of_rope_is_the_same(
    tiny: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, table = torch.randn(2, 32, 4, 16), rope_table(tiny, 32)
    complex_form = rotate(x, table)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(x, table), complex_form)


def test_grouped_queries_are_repeated_keys_and_values(tiny: ModelShape) -> None:
    attention = initialised(tiny).layers[0].attention
    x, table = torch.randn(2, 32, tiny.dim), rope_table(tiny, 32)
    q = rotate(attention.wq(x).unflatten(-1, (-1, 16)), table).transpose(1, 2)
    k = rotate(attention.wk(x).unflatten(-1, (-1, 16)), table).transpose(1, 2)
    v = attention.wv(x).unflatten(-1, (-1, 16)).transpose(1, 2)
    k, v = (part.repeat_interleave(2, dim=1) for part in (k, v))
    scores = (q @ k.transpose(-1, -2) / 4).masked_fill(torch.ones(32, 32).triu(1).bool(), -math.inf)
    expected = attention.wo((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, table), expected)


def test_chunks_change_neither_loss_nor_gradients(tiny: ModelShape) -> None:
    tokens = random_tokens(tiny, 3)
    targets = tokens.roll(-1, 1)
    targets[0, :20] = IGNORE
    gradients = []
    for chunks in (1, 5):
        model = initialised(tiny)
        loss = model(tokens, targets, loss_chunks=chunks)
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*gradients)
    logits = initialised(tiny)(tokens)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(gradients[0][0], expected.detach())


def test_the_cache_gives_what_a_whole_pass_gives(tiny: ModelShape) -> None:
    model, tokens = initialised(tiny), random_tokens(tiny)
    for cuts in ([0, 7, *range(8, 33)], [0, 6, 12, 13, 32], [0, 32]):
        cache = model.new_cache(32)
        parts = [model(tokens[:, a:b], cache=cache) for a, b in pairwise(cuts)]
        torch.testing.assert_close(torch.cat(parts, 1), model(tokens))


def test_generation_is_greedy_or_drawn_by_key(tiny: ModelShape) -> None:
    model = initialised(tiny)
    (greedy,) = sample(model, [[1, 5, 9]], count=12)
    sequence = [1, 5, 9]
    for _ in range(12):
        sequence.append(int(model(torch.tensor([sequence]))[0, -1].argmax()))
    assert greedy == sequence[3:]
    keys = ["a", "a", "b"]
    drawn = sample(model, [[1]] * 3, count=12, temperature=1.0, keys=keys)
    assert drawn[0] == drawn[1] != drawn[2]
    (nearly_greedy,) = sample(model, [[1, 5, 9]], count=12, temperature=1.0, top_p=1e-6)
    assert nearly_greedy == greedy


def test_a_prompt_is_continued_alike_in_any_batch(tiny: ModelShape) -> None:
    model = initialised(tiny)
    prompts = [[1, *range(5, 5 + length)] for length in (3, 9, 3, 0, 9, 14, 3)]
    keys = [f"7/{number}" for number in range(len(prompts))]
    together = sample(model, prompts, count=16, temperature=1.0, top_p=0.9, keys=keys, stop=2)
    alone = [
        sample(model, [prompt], count=16, temperature=1.0, top_p=0.9, keys=[key], stop=2)[0]
        for prompt, key in zip(prompts, keys, strict=True)
    ]
    assert together == alone
    assert len(set(map(tuple, together))) == len(prompts)


def test_a_sample_ends_with_its_first_stop(tiny: ModelShape) -> None:
    model = initialised(tiny)
    (free,) = sample(model, [[1]], count=12, temperature=1.0)
    stop = free[4]
    (ended, other) = sample(
        model, [[1], [1]], count=12, temperature=1.0, keys=["0", "1"], stop=stop
    )
    assert ended == free[: free.index(stop) + 1]
    assert stop not in other[:-1]


def test_tokens_are_drawn_as_often_as_they_are_likely(tiny: ModelShape) -> None:
    model = initialised(tiny)
    shares = (3 * model(torch.tensor([[1]]))[0, -1]).softmax(-1).detach()
    keys = [str(number) for number in range(4000)]
    drawn = sample(model, [[1]] * len(keys), count=1, temperature=1 / 3, keys=keys)
    counts = torch.bincount(torch.tensor(drawn)[:, 0], minlength=tiny.vocab_size)
    # Pearson's statistic has the mean V - 1 and the deviation sqrt(2(V - 1)).
    expected = shares * len(keys)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - 511) < 4 * math.sqrt(2 * 511)


def test_the_flops_formula_is_what_torch_counts(tiny: ModelShape) -> None:
    model, tokens = initialised(tiny), random_tokens(tiny)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        counter = FlopCounterMode(display=False)
        with counter:
            model(tokens, tokens).backward()
    # Norm weights are parameters of the formula and no matrix multiplication.
    norms = 6 * (2 * tiny.n_layers + 1) * tiny.dim
    expected = (flops_per_token(tiny) - norms) * tokens.numel()
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-12)


def test_flops_of_the_7b() -> None:
    from llama_train.presets import LLAMA2_7B

    n, embedding, attention = 6_738_415_616, 131_072_000, 12 * 32 * 4096 * 4096
    assert flops_per_token(LLAMA2_7B) == 6 * (n - embedding) + attention


def test_mfu_of_a_known_device_and_none_of_an_unknown() -> None:
    from llama_train.presets import LLAMA2_7B

    # IBM's published 4,550 tokens/s on an A100 is 67.2 % by this formula.
    assert mfu(LLAMA2_7B, 4550, "NVIDIA A100-SXM4-80GB") == pytest.approx(0.672, abs=5e-4)
    assert mfu(LLAMA2_7B, 4550, "cpu") is None
