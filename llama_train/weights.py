"""Weights in and out: Hugging Face's safetensors layout, Meta's own files, and our runs.

The three hold the same matrices. Only the queries and keys differ: Meta (and we) rotate neighbours
(2i, 2i+1) of a head, Hugging Face rotates (i, i + K/2), so the rows of a head change places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama_train.checkpoint import load_model, newest
from llama_train.config import ModelShape
from llama_train.errors import TrainError
from llama_train.model import Transformer

Weights = dict[str, Tensor]

HF_INDEX = "model.safetensors.index.json"

# What RoPE follows from is in the shape; older files carry it as weights, too.
_ROTATIONS = ("rope.freqs", "rotary_emb.inv_freq")

_LAYER_NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}

# Meta cuts a model of several files along this dimension; norms are whole in each.
_META_CUT = {"wo": 1, "w2": 1, "tok_embeddings": 1} | dict.fromkeys(
    ("wq", "wk", "wv", "w1", "w3", "output"), 0
)


def to_hf(weights: Mapping[str, Tensor], shape: ModelShape) -> Weights:
    """Our names and row order to those of `LlamaForCausalLM`."""
    named = {}
    for ours, theirs in _names(shape):
        weight = weights[ours]
        if theirs.endswith(("q_proj.weight", "k_proj.weight")):
            pairs = weight.view(-1, shape.head_dim // 2, 2, shape.dim)
            weight = pairs.transpose(1, 2).flatten(0, 2)
        named[theirs] = weight.contiguous()
    return named


def from_hf(weights: Mapping[str, Tensor], shape: ModelShape) -> Weights:
    """The inverse of `to_hf`, bit for bit."""
    named = {}
    for ours, theirs in _names(shape):
        weight = weights[theirs]
        if theirs.endswith(("q_proj.weight", "k_proj.weight")):
            halves = weight.view(-1, 2, shape.head_dim // 2, shape.dim)
            weight = halves.transpose(1, 2).flatten(0, 2)
        named[ours] = weight.contiguous()
    return named


def load_pretrained(folder: Path) -> Transformer:
    """A model on the CPU in float32 from a run, a Hugging Face folder or a Meta folder.

    Raises TrainError if the folder is none of them, is damaged, or is not a Llama 1 or 2.
    """
    if (folder / "checkpoints").is_dir():
        checkpoint, config = newest(folder)
        model = Transformer(config.model)
        load_model(checkpoint, model)
        return model
    if (folder / "params.json").is_file():
        shape, weights = _read_meta(folder)
    elif (folder / "config.json").is_file():
        shape, weights = _read_hf(folder)
    else:
        raise TrainError(f"{folder} is no run, no Hugging Face folder and no Meta folder.")
    model = Transformer(shape)
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model


def _names(shape: ModelShape) -> Iterator[tuple[str, str]]:
    """(our name, Hugging Face's name) of each weight."""
    yield "tok_embeddings.weight", "model.embed_tokens.weight"
    for layer in range(shape.n_layers):
        for ours, theirs in _LAYER_NAMES.items():
            yield f"layers.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight"
    yield "norm.weight", "model.norm.weight"
    yield "output.weight", "lm_head.weight"


def _read_hf(folder: Path) -> tuple[ModelShape, Weights]:
    from safetensors.torch import load_file

    config = _read_json(folder / "config.json")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (
        config.get("model_type") != "llama"
        or config.get("tie_word_embeddings")
        or rope.get("rope_type", rope.get("type", "default")) != "default"
    ):
        raise TrainError(f"{folder} is not a Llama 1 or 2 (plain RoPE, untied).")
    with _described_by(folder / "config.json"):
        shape = _with_ffn(
            config["intermediate_size"],
            dim=config["hidden_size"],
            n_layers=config["num_hidden_layers"],
            n_heads=config["num_attention_heads"],
            n_kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            vocab_size=config["vocab_size"],
            context=config["max_position_embeddings"],
            norm_eps=config["rms_norm_eps"],
            rope_theta=config.get("rope_theta") or rope.get("rope_theta", 10_000.0),
        )
    # The folder may hold the weights a second time, in another layout; the index tells which count.
    index = folder / HF_INDEX
    known = set(_read_json(index).get("weight_map", {}).values()) if index.is_file() else None
    files = [
        file for file in sorted(folder.glob("*.safetensors")) if known is None or file.name in known
    ]
    if not files:
        raise TrainError(f"{folder} holds no .safetensors file.")
    named: Weights = {}
    for file in files:
        with _whole(file):
            named |= load_file(file)
    _check(named, dict(_names(shape)), shape, folder)
    return shape, from_hf(named, shape)


def _read_meta(folder: Path) -> tuple[ModelShape, Weights]:
    params = _read_json(folder / "params.json")
    files = sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise TrainError(f"{folder} holds no consolidated.*.pth file.")
    parts: list[Weights] = []
    for file in files:
        with _whole(file):
            part = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251
            if not isinstance(part, dict):
                raise ValueError("it holds no weights by name")
            parts.append(part)
    weights: Weights = {}
    with _described_by(folder / "params.json"):
        for name in parts[0]:
            cut = _META_CUT.get(name.split(".")[-2])
            pieces = [part[name] for part in parts]
            weights[name] = pieces[0] if cut is None else torch.cat(pieces, dim=cut)
        shape = _with_ffn(
            weights["layers.0.feed_forward.w1.weight"].shape[0],
            dim=params["dim"],
            n_layers=params["n_layers"],
            n_heads=params["n_heads"],
            n_kv_heads=params.get("n_kv_heads") or params["n_heads"],
            vocab_size=weights["output.weight"].shape[0],
            context=4096,
            norm_eps=params["norm_eps"],
            rope_theta=params.get("rope_theta", 10_000.0),
        )
    names = {ours: ours for ours, _ in _names(shape)}
    _check(weights, names, shape, folder)
    return shape, {name: weights[name] for name in names}


def _check(weights: Weights, names: Mapping[str, str], shape: ModelShape, folder: Path) -> None:
    """Raises TrainError unless the weights are those of the shape, by their `names` from ours."""
    with _described_by(folder), torch.device("meta"):
        sizes = {name: weight.shape for name, weight in Transformer(shape).state_dict().items()}
    for ours, name in names.items():
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != sizes[ours]:
            raise TrainError(f"{folder}: {name} should be {tuple(sizes[ours])} and is {found}.")
    for name in weights.keys() - set(names.values()):
        if not name.endswith(_ROTATIONS):
            raise TrainError(f"{folder}: {name} is no weight of a Llama 1 or 2.")


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each reader has its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainError(f"{file} cannot be read: {reason}.") from error


@contextmanager
def _described_by(place: Path) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise TrainError(
            f"{place}: its numbers and weights are not those of a Llama 1 or 2 "
            f"({type(error).__name__}: {error})."
        ) from error


def _with_ffn(ffn_dim: int, *, dim: int, **numbers: Any) -> ModelShape:
    """The shape whose rule for the feed-forward width gives exactly `ffn_dim`."""
    multiplier = min(1.0, ffn_dim / int(2 * (4 * dim) / 3))
    return ModelShape(dim=dim, multiple_of=ffn_dim, ffn_multiplier=multiplier, **numbers)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainError(f"{path} is not readable JSON.") from error
    if not isinstance(content, dict):
        raise TrainError(f"{path} is no JSON object.")
    return content
