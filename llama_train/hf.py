"""Weights in and out: Hugging Face's safetensors layout, Meta's own files, and our runs.

The three hold the same matrices. Only the queries and keys differ: Meta (and we) rotate neighbours
(2i, 2i+1) of a head, Hugging Face rotates (i, i + K/2), so the rows of a head change places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama_train.checkpoint import load_model, newest
from llama_train.config import ModelShape
from llama_train.errors import TrainError
from llama_train.model import Transformer

Weights = dict[str, Tensor]

SHARD_BYTES = 5 * 10**9

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
    """The inverse of `to_hf`, bit for bit. Raises TrainError for a missing weight."""
    named = {}
    for ours, theirs in _names(shape):
        if theirs not in weights:
            raise TrainError(f"The Hugging Face checkpoint lacks the weight {theirs}.")
        weight = weights[theirs]
        if theirs.endswith(("q_proj.weight", "k_proj.weight")):
            halves = weight.view(-1, 2, shape.head_dim // 2, shape.dim)
            weight = halves.transpose(1, 2).flatten(0, 2)
        named[ours] = weight.contiguous()
    return named


def export(model: Transformer, folder: Path, tokenizer: bytes | None) -> None:
    """Write what `LlamaForCausalLM.from_pretrained(folder)` reads."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shape = model.shape
    named = to_hf(model.state_dict(), shape)
    files = list(_split(named))
    where: dict[str, str] = {}
    for i, part in enumerate(files, 1):
        single = len(files) == 1
        file = "model.safetensors" if single else f"model-{i:05d}-of-{len(files):05d}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    if len(files) > 1:
        size = sum(weight.nbytes for weight in named.values())
        _write_json(
            folder / "model.safetensors.index.json",
            {"metadata": {"total_size": size}, "weight_map": where},
        )
    _write_json(folder / "config.json", _hf_config(shape))
    if tokenizer is not None:
        (folder / "tokenizer.model").write_bytes(tokenizer)


def load_pretrained(folder: Path) -> Transformer:
    """A model on the CPU in float32 from a run, a Hugging Face folder or a Meta folder.

    Raises TrainError if the folder is none of them, or not a Llama 1 or 2.
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
    with torch.device("meta"):
        empty = Transformer(shape)
    expected = {name: weight.shape for name, weight in empty.state_dict().items()}
    for name, size in expected.items():
        if name not in weights or weights[name].shape != size:
            found = tuple(weights[name].shape) if name in weights else "nothing"
            raise TrainError(f"{folder}: {name} should be {tuple(size)} and is {found}.")
    model = Transformer(shape)
    model.load_state_dict({name: weights[name].float() for name in expected})
    return model


def _names(shape: ModelShape) -> Iterator[tuple[str, str]]:
    """(our name, Hugging Face's name) of each weight."""
    yield "tok_embeddings.weight", "model.embed_tokens.weight"
    for layer in range(shape.n_layers):
        for ours, theirs in _LAYER_NAMES.items():
            yield f"layers.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight"
    yield "norm.weight", "model.norm.weight"
    yield "output.weight", "lm_head.weight"


def _split(weights: Weights) -> Iterator[Weights]:
    part: Weights = {}
    for name, weight in weights.items():
        if part and sum(w.nbytes for w in part.values()) + weight.nbytes > SHARD_BYTES:
            yield part
            part = {}
        part[name] = weight
    yield part


def _hf_config(shape: ModelShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.dim,
        "intermediate_size": shape.ffn_dim,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def _read_hf(folder: Path) -> tuple[ModelShape, Weights]:
    from safetensors.torch import load_file

    config = _read_json(folder / "config.json")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (
        config.get("model_type") != "llama"
        or config.get("tie_word_embeddings")
        or config.get("attention_bias")
        or rope.get("rope_type", "default") != "default"
    ):
        raise TrainError(f"{folder} is not a Llama 1 or 2 (plain RoPE, untied, no biases).")
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
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrainError(f"{folder} holds no .safetensors file.")
    named: Weights = {}
    for file in files:
        named |= load_file(file)
    return shape, from_hf(named, shape)


def _read_meta(folder: Path) -> tuple[ModelShape, Weights]:
    params = _read_json(folder / "params.json")
    files = sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise TrainError(f"{folder} holds no consolidated.*.pth file.")
    parts = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    weights: Weights = {}
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
    return shape, weights


def _with_ffn(ffn_dim: int, *, dim: int, **numbers: Any) -> ModelShape:
    """The shape whose rule for the feed-forward width gives exactly `ffn_dim`."""
    multiplier = min(1.0, ffn_dim / int(2 * (4 * dim) / 3))
    return ModelShape(dim=dim, multiple_of=ffn_dim, ffn_multiplier=multiplier, **numbers)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainError(f"{path} is not readable JSON.") from error
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
