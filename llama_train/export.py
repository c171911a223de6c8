"""A model as Hugging Face's libraries read it: weights, configuration, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llama_train.config import ModelShape
from llama_train.errors import TrainError, make_folder
from llama_train.model import Transformer
from llama_train.tokenizer import SHA256_KEY, Piece, Tokenizer
from llama_train.weights import HF_INDEX, Weights, to_hf

SHARD_BYTES = 5 * 10**9

# What `chat.conversation` trains on, in Jinja: BOS [INST] user [/INST] answer EOS, for each turn.
CHAT_TEMPLATE = """\
{% if messages[0]['role'] == 'system' %}\
{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}\
{% set turns = messages[1:] %}\
{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}\
{% for turn in turns %}\
{% if turn['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') %}\
{{ raise_exception('After an optional system message, user and assistant must alternate.') }}\
{% elif turn['role'] == 'user' %}\
{% set question = (system if loop.first else '') + turn['content'] %}\
{{ bos_token + '[INST] ' + question.strip() + ' [/INST]' }}\
{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}\
{% endfor %}"""


def export(
    model: Transformer,
    folder: Path,
    tokenizer: Tokenizer | None,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write what `AutoModelForCausalLM` and `AutoTokenizer` read; config.json comes last.

    Raises TrainError if the folder is not empty: a run or another model would be spoilt.
    """
    make_folder(folder)
    if any(folder.iterdir()):
        raise TrainError(f"{folder} is not empty.", hint="Export into a new folder.")
    named = to_hf({name: w.to(dtype) for name, w in model.state_dict().items()}, model.shape)
    _write_weights(named, folder)
    ends: dict[str, int] = {}
    of_tokenizer: dict[str, str] = {}
    if tokenizer is not None:
        ends = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos}
        of_tokenizer = {SHA256_KEY: tokenizer.sha256}
        (folder / "tokenizer.model").write_bytes(tokenizer.blob)
        if tokenizer.is_llamas_kind:
            _write_json(folder / "tokenizer.json", _hf_tokenizer(tokenizer))
            config = _hf_tokenizer_config(tokenizer, model.shape)
            _write_json(folder / "tokenizer_config.json", config)
        _write_json(folder / "generation_config.json", ends)
    _write_json(folder / "config.json", _hf_config(model.shape, dtype) | ends | of_tokenizer)


def _write_weights(named: Weights, folder: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

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
        index = {"metadata": {"total_size": size}, "weight_map": where}
        _write_json(folder / HF_INDEX, index)


def _split(weights: Weights) -> Iterator[Weights]:
    part: Weights = {}
    for name, weight in weights.items():
        if part and sum(w.nbytes for w in part.values()) + weight.nbytes > SHARD_BYTES:
            yield part
            part = {}
        part[name] = weight
    yield part


def _hf_config(shape: ModelShape, dtype: torch.dtype) -> dict[str, Any]:
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
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _hf_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """The SentencePiece model in the format of the `tokenizers` library, BOS before every text.

    Written here, because transformers needs protobuf to read the .model.
    """
    pieces = tokenizer.pieces()
    bos, eos, unk = (pieces[i].text for i in (tokenizer.bos, tokenizer.eos, tokenizer.unk))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    starts = [{"SpecialToken": {"id": bos, "type_id": i}} for i in range(2)]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": text, "special": True, **flags}
            for number, text in ((tokenizer.unk, unk), (tokenizer.bos, bos), (tokenizer.eos, eos))
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [starts[0], first],
            "pair": [starts[0], first, starts[1], second],
            "special_tokens": {bos: {"id": bos, "ids": [tokenizer.bos], "tokens": [bos]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": unk,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece.text: number for number, piece in enumerate(pieces)},
            "merges": _merges(pieces),
        },
    }


def _merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others; those of the highest score come first."""
    known = {piece.text for piece in pieces if piece.is_normal}
    merges = []
    for piece in pieces:
        if piece.is_normal:
            halves = ((piece.text[:at], piece.text[at:]) for at in range(1, len(piece.text)))
            merges += [(-piece.score, pair) for pair in halves if known.issuperset(pair)]
    return [pair for _, pair in sorted(merges)]


def _hf_tokenizer_config(tokenizer: Tokenizer, shape: ModelShape) -> dict[str, Any]:
    pieces = tokenizer.pieces()
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": pieces[tokenizer.bos].text,
        "eos_token": pieces[tokenizer.eos].text,
        "unk_token": pieces[tokenizer.unk].text,
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
