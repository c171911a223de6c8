"""Llama 2 in one file. It knows nothing of devices, ranks, precision or checkpoints.

Names are Meta's, so that their checkpoints load by key. Shapes in comments: B sequences, T tokens,
D model width, H query heads, G key/value heads, K width of a head, V pieces of the vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llama_train.config import ModelShape

IGNORE = -100
"""A target that is not predicted: it adds nothing to the loss."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) in float32, cast back, then scaled: the order matters in bf16."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return normed.type_as(x) * self.weight


def rope_table(shape: ModelShape, length: int) -> Tensor:
    """The rotation of each position and pair as (cos, sin): (length, K/2, 2), float32."""
    pairs = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float64), shape.rope_theta**-pairs)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotary embedding: neighbours (2i, 2i+1) of each head are turned by position × frequency i.

    x (B, T, H, K), rope (T, K/2, 2). The product of complex numbers is the fastest form in eager
    mode; the compiler only fuses the same product written with real ones.
    """
    pairs, turn = x.float().view(*x.shape[:-1], -1, 2), rope[:, None]
    if torch.compiler.is_compiling():
        (a, b), (cos, sin) = pairs.unbind(-1), turn.unbind(-1)
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turn))
    return turned.flatten(-2).type_as(x)


@dataclass(slots=True)
class LayerCache:
    """Keys and values that one layer has seen: of (B, most, G, K) the first `length`.

    Allocated when the first come, which shows their type: the compute's, not the weights'.
    """

    most: int
    k: Tensor = field(default_factory=lambda: torch.empty(0))
    v: Tensor = field(default_factory=lambda: torch.empty(0))
    length: int = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if not self.length:
            size = (k.shape[0], self.most, *k.shape[2:])
            self.k, self.v = k.new_empty(size), v.new_empty(size)
        start, self.length = self.length, self.length + k.shape[1]
        self.k[:, start : self.length] = k
        self.v[:, start : self.length] = v
        return self.k[:, : self.length], self.v[:, : self.length]


class Attention(nn.Module):
    """Causal self-attention; with fewer key/value heads than query heads it is grouped-query."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        kv_dim = shape.n_kv_heads * shape.head_dim
        self.head_dim = shape.head_dim
        self.wq = nn.Linear(shape.dim, shape.dim, bias=False)
        self.wk = nn.Linear(shape.dim, kv_dim, bias=False)
        self.wv = nn.Linear(shape.dim, kv_dim, bias=False)
        self.wo = nn.Linear(shape.dim, shape.dim, bias=False)

    def forward(self, x: Tensor, rope: Tensor, cache: LayerCache | None = None) -> Tensor:
        # The number of heads is left open (-1): a rank may hold a part of them.
        q = rotate(self.wq(x).unflatten(-1, (-1, self.head_dim)), rope)  # B T H K
        k = rotate(self.wk(x).unflatten(-1, (-1, self.head_dim)), rope)  # B T G K
        v = self.wv(x).unflatten(-1, (-1, self.head_dim))  # B T G K
        if cache is not None:
            k, v = cache.append(k, v)
        # A token sees itself and all before it. One new token after cached ones sees everything;
        # several take a mask, for `is_causal` would count from the first cached one.
        new, seen = q.shape[1], k.shape[1]
        mask = None
        if 1 < new < seen:
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=new == seen,
            enable_gqa=self.wq.out_features != self.wk.out_features,
        )  # B H T K
        return self.wo(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.dim, shape.ffn_dim, bias=False)
        self.w2 = nn.Linear(shape.ffn_dim, shape.dim, bias=False)
        self.w3 = nn.Linear(shape.dim, shape.ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.feed_forward = FeedForward(shape)
        self.attention_norm = RMSNorm(shape.dim, shape.norm_eps)
        self.ffn_norm = RMSNorm(shape.dim, shape.norm_eps)

    def forward(self, x: Tensor, rope: Tensor, cache: LayerCache | None = None) -> Tensor:
        h = x + self.attention(self.attention_norm(x), rope, cache)
        return h + self.feed_forward(self.ffn_norm(h))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """tokens (B, T) → logits (B, T, V), or with targets (B, T) → the sum of their losses.

    With a scalar head, tokens (B, T) → scores (B, T, 1). `last_only` gives what belongs to the last
    token alone: the logits of a whole prompt take more memory than all that is made before them.
    """

    rope: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.tok_embeddings = nn.Embedding(shape.vocab_size, shape.dim)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape.dim, shape.norm_eps)
        self.output = nn.Linear(shape.dim, shape.outputs, bias=False)
        self.register_buffer("rope", rope_table(shape, shape.context), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        *,
        loss_chunks: int = 1,
        cache: list[LayerCache] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        start = cache[0].length if cache else 0
        rope = self.rope[start : start + tokens.shape[1]]
        h = self.tok_embeddings(tokens)  # B T D
        for i, layer in enumerate(self.layers):
            h = layer(h, rope, cache[i] if cache else None)
        h = self.norm(h[:, -1:] if last_only else h)
        if targets is None:
            return self.output(h).float()  # type: ignore[no-any-return]
        return self._loss_sum(h.flatten(0, 1), targets.flatten(), loss_chunks)

    def _loss_sum(self, h: Tensor, targets: Tensor, chunks: int) -> Tensor:
        """Sum of cross-entropies of float32 logits, never holding those of more than a chunk."""
        if chunks == 1:
            return self.chunk_loss(h, targets)
        parts = zip(h.chunk(chunks), targets.chunk(chunks), strict=True)
        losses = [checkpoint(self.chunk_loss, *part, use_reentrant=False) for part in parts]
        return torch.stack(losses).sum()

    def chunk_loss(self, h: Tensor, targets: Tensor) -> Tensor:
        logits = self.output(h).float()
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")

    def new_cache(self, length: int) -> list[LayerCache]:
        """Room for `length` tokens of each sequence."""
        return [LayerCache(length) for _ in self.layers]


def initial_weight(
    name: str, size: torch.Size, shape: ModelShape, seed: int, device: torch.device
) -> Tensor:
    """The first value of the parameter `name`, a function of the seed and the name alone.

    So it does not depend on the number of ranks. The report gives no initialisation; this is our
    choice: norms 1; normal with deviation 0.02, divided by sqrt(2·layers) where a layer writes into
    the residual stream (GPT-2); for the output 0.2/sqrt(dim), so that the first loss is near ln V.
    """
    if name.endswith("norm.weight"):
        return torch.ones(size, device=device)
    std = 0.02
    if name.endswith(("wo.weight", "w2.weight")):
        std /= math.sqrt(2 * shape.n_layers)
    elif name == "output.weight":
        std = 0.2 / math.sqrt(shape.dim)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.empty(size, device=device).normal_(0.0, std, generator=generator)
