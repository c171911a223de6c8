"""`export`: a model as Hugging Face reads it."""

from __future__ import annotations

from llama_train.cli.options import ModelArgument, OutOption


def export(folder: ModelArgument, out: OutOption) -> None:
    """Write the weights as Hugging Face's `LlamaForCausalLM` reads them (safetensors)."""
    from llama_train.export import export as write
    from llama_train.weights import load_pretrained

    tokenizer = folder / "tokenizer.model"
    write(load_pretrained(folder), out, tokenizer.read_bytes() if tokenizer.is_file() else None)
    print(f"{folder} -> {out}")
