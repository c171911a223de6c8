"""Weights of other layouts: Hugging Face's safetensors, Meta's own files, and our runs.

The three hold the same matrices. Only the queries and keys differ: Meta (and we) rotate neighbours
(2i, 2i+1) of a head, Hugging Face rotates (i, i + K/2), so the rows of a head change places.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama_train.checkpoint import CHECKPOINTS, newest
from llama_train.checkpoint_reader import read_tensors
from llama_train.config import ModelShape
from llama_train.errors import TrainError
from llama_train.model import Transformer

Weights = dict[str, Tensor]

HF_INDEX = "model.safetensors.index.json"

# What RoPE follows from is in the shape; older files hold it as weights, too.
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

# A configuration is read by what is understood. Of each file the keys that the shape is made of;
# those that a Llama 1 or 2 has at one value; and those that do not change what it computes.
_HF_SHAPE = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "rope_parameters", "tie_word_embeddings", "head_dim",
}  # fmt: skip
_HF_FIXED = {
    "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "partial_rotary_factor": 1.0, "rope_interleaved": False,
}  # fmt: skip
_HF_IGNORED = {
    "_name_or_path", "architectures", "attention_dropout", "bos_token_id", "dtype",
    "chunk_size_feed_forward", "eos_token_id", "id2label", "initializer_range", "label2id",
    "is_encoder_decoder",
    "max_length", "output_attentions", "output_hidden_states", "pad_token_id", "pretraining_tp",
    "problem_type", "return_dict", "temperature", "top_p", "torch_dtype", "transformers_version",
    "transformers.js_config", "unsloth_version", "use_cache", "is_llama_config",
    "tokenizer_sha256",
}  # fmt: skip
_ROPE_FIXED = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
_META_SHAPE = {
    "dim", "n_layers", "n_heads", "n_kv_heads", "norm_eps", "rope_theta", "vocab_size",
    "multiple_of", "ffn_dim_multiplier",
}  # fmt: skip
_META_FIXED = {"use_scaled_rope": False}
_META_IGNORED = {"max_seq_len", "max_batch_size"}


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model whose weights are still on disk."""

    shape: ModelShape
    read: Callable[[], Weights]
    """All weights on the CPU under our names. Raises TrainError if they are damaged or others."""
    step: int | None = None
    """After how many steps the weights of a run are; None of another folder."""

    def model(self, device: torch.device | str = "cpu") -> Transformer:
        """The model in float32, with its weights."""
        model = Transformer(self.shape)
        model.load_state_dict(self.read())
        return model.to(device)


def open_pretrained(folder: Path, *, head: str = "tokens") -> Pretrained:
    """A run, a Hugging Face folder or a Meta folder.

    Raises TrainError if it is none of them, is not a Llama 1 or 2, or has another head.
    """
    if (folder / CHECKPOINTS).is_dir():
        checkpoint, manifest = newest(folder)
        shape = manifest.config.model
        if shape.head != head:
            found = {"tokens": "a language model", "scalar": "a reward model"}
            raise TrainError(f"{folder} is {found[shape.head]}, not {found[head]}.")
        return Pretrained(shape, lambda: _read_run(checkpoint, shape), manifest.progress.step)
    if head != "tokens":
        raise TrainError(f"{folder} is not a run of `reward`.")
    if (folder / "params.json").is_file():
        return _open_meta(folder)
    if (folder / "config.json").is_file():
        return _open_hf(folder)
    raise TrainError(f"{folder} is neither a run, nor a Hugging Face folder, nor a Meta folder.")


def load_pretrained(
    folder: Path, device: torch.device | str = "cpu", *, head: str = "tokens"
) -> Transformer:
    """The model of such a folder in float32."""
    return open_pretrained(folder, head=head).model(device)


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


def _names(shape: ModelShape) -> Iterator[tuple[str, str]]:
    """(our name, Hugging Face's name) of each weight."""
    yield "tok_embeddings.weight", "model.embed_tokens.weight"
    for layer in range(shape.n_layers):
        for ours, theirs in _LAYER_NAMES.items():
            yield f"layers.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight"
    yield "norm.weight", "model.norm.weight"
    yield "output.weight", "lm_head.weight"


def _read_run(checkpoint: Path, shape: ModelShape) -> Weights:
    weights = {name: torch.empty(size) for name, size in _sizes(shape).items()}
    read_tensors({"model": weights}, checkpoint, alone=True)
    return weights


def _open_hf(folder: Path) -> Pretrained:
    place = folder / "config.json"
    config = {"model_type": "missing", **_read_json(place)}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _understand(config, place, _HF_SHAPE, _HF_FIXED, _HF_IGNORED)
    _understand(rope, place, {"rope_theta"}, _ROPE_FIXED, set())
    with _described_by(place):
        shape = _shape(
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
        if config.get("head_dim") not in (None, shape.head_dim):
            raise ValueError(f"head_dim {config['head_dim']} is not {shape.head_dim}")
    return Pretrained(
        shape, lambda: _read_hf(folder, shape, bool(config.get("tie_word_embeddings")))
    )


def _read_hf(folder: Path, shape: ModelShape, tied: bool) -> Weights:
    from safetensors.torch import load_file

    # The folder may hold the weights a second time, in another layout; the index lists what counts.
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
    if tied and "model.embed_tokens.weight" in named:
        named["lm_head.weight"] = named["model.embed_tokens.weight"]
    _check(named, dict(_names(shape)), shape, folder)
    return from_hf(named, shape)


def _open_meta(folder: Path) -> Pretrained:
    params = _read_json(folder / "params.json")
    _understand(params, folder / "params.json", _META_SHAPE, _META_FIXED, _META_IGNORED)
    files = sorted(folder.glob("consolidated.*.pth"))
    if not files:
        raise TrainError(f"{folder} holds no consolidated.*.pth file.")
    parts = [_meta_part(file) for file in files]
    with _described_by(folder / "params.json"):
        shape = _shape(
            sum(part["layers.0.feed_forward.w1.weight"].shape[0] for part in parts),
            dim=params["dim"],
            n_layers=params["n_layers"],
            n_heads=params["n_heads"],
            n_kv_heads=params.get("n_kv_heads") or params["n_heads"],
            vocab_size=sum(part["output.weight"].shape[0] for part in parts),
            context=4096,
            norm_eps=params["norm_eps"],
            rope_theta=params.get("rope_theta", 10_000.0),
        )
    return Pretrained(shape, lambda: _read_meta(folder, parts, shape))


def _meta_part(file: Path) -> Weights:
    """Mapped, not read: the pages come when they are used."""
    with _whole(file):
        part = torch.load(file, map_location="cpu", mmap=True, weights_only=True)  # noqa: TID251
        if not isinstance(part, dict) or not all(isinstance(w, Tensor) for w in part.values()):
            raise ValueError("it is not a dictionary of weights")
        return part


def _read_meta(folder: Path, parts: list[Weights], shape: ModelShape) -> Weights:
    weights: Weights = {}
    with _described_by(folder):
        for name in parts[0]:
            cut = _META_CUT.get(name.split(".")[-2])
            pieces = [part[name] for part in parts]
            weights[name] = pieces[0] if cut is None else torch.cat(pieces, dim=cut)
    names = {ours: ours for ours, _ in _names(shape)}
    _check(weights, names, shape, folder)
    return {name: weights[name] for name in names}


def _understand(
    config: Any, place: Path, shape: set[str], fixed: Mapping[str, Any], ignored: set[str]
) -> None:
    """Raise TrainError for a key that may change what the model computes in a way we do not."""
    if not isinstance(config, dict):
        raise TrainError(f"{place} is not the configuration of a Llama 1 or 2.")
    for key, value in config.items():
        if key in fixed and value not in (None, fixed[key]):
            raise TrainError(
                f"{place}: {key} is {value!r}; of the models that llama_train knows, Llama 1 and "
                f"2, it is {fixed[key]!r}."
            )
        if value is not None and key not in shape | fixed.keys() | ignored:
            raise TrainError(
                f"{place}: {key} ({value!r}) is not known of a Llama 1 or 2, and may change what "
                "the model computes."
            )


def _check(weights: Weights, names: Mapping[str, str], shape: ModelShape, folder: Path) -> None:
    """Raise TrainError unless the weights are those of the shape, by their `names` from ours."""
    with _described_by(folder):
        sizes = _sizes(shape)
    for ours, name in names.items():
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != sizes[ours]:
            raise TrainError(f"{folder}: {name} should be {tuple(sizes[ours])} and is {found}.")
    for name in weights.keys() - set(names.values()):
        if not name.endswith(_ROTATIONS):
            raise TrainError(f"{folder}: {name} is not a weight of a Llama 1 or 2.")


def _sizes(shape: ModelShape) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: weight.shape for name, weight in Transformer(shape).state_dict().items()}


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
    except TrainError as error:
        raise TrainError(f"{place}: {error}") from error
    except KeyError as error:
        raise TrainError(f"{place}: {error.args[0]} of a Llama 1 or 2 is missing.") from error
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise TrainError(
            f"{place}: its numbers and weights are not those of a Llama 1 or 2 ({error})."
        ) from error


def _shape(ffn_dim: int, *, dim: int, **numbers: Any) -> ModelShape:
    """The shape whose rule for the feed-forward width gives exactly `ffn_dim`."""
    multiplier = min(1.0, ffn_dim / int(2 * (4 * dim) / 3))
    shape = ModelShape(dim=dim, multiple_of=ffn_dim, ffn_multiplier=multiplier, **numbers)
    shape.check()
    return shape


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{path} is not readable JSON.") from error
    if not isinstance(content, dict):
        raise TrainError(f"{path} is not a JSON object.")
    return content
