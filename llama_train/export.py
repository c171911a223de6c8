"""A model as Hugging Face's libraries read it: weights, configuration, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_train.config import ModelShape
from llama_train.errors import TrainError, make_folder
from llama_train.model import Transformer
from llama_train.weights import HF_INDEX, Weights, to_hf

SHARD_BYTES = 5 * 10**9


def export(model: Transformer, folder: Path, tokenizer: bytes | None) -> None:
    """Write what `LlamaForCausalLM.from_pretrained(folder)` reads; config.json comes last.

    Raises TrainError if the folder is not empty: a run or another model would be spoilt.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    make_folder(folder)
    if any(folder.iterdir()):
        raise TrainError(f"{folder} is not empty.", hint="Export into a new folder.")
    shape = model.shape
    named = to_hf(model.state_dict(), shape)
    files = list(_split(named))
    where: dict[str, str] = {}
    for i, part in enumerate(files, 1):
        single = len(files) == 1
        file = "model.safetensors" if single else f"model-{i:05d}-of-{len(files):05d}.safetensors"
        try:
            save_file(part, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise TrainError(f"{folder / file}: {error}.", exit_code=1) from error
        where |= dict.fromkeys(part, file)
    if len(files) > 1:
        size = sum(weight.nbytes for weight in named.values())
        _write_json(
            folder / HF_INDEX,
            {"metadata": {"total_size": size}, "weight_map": where},
        )
    if tokenizer is not None:
        (folder / "tokenizer.model").write_bytes(tokenizer)
    _write_json(folder / "config.json", _hf_config(shape))


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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
