"""`prepare`: text to token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_train.cli.options import OutOption
from llama_train.errors import TrainError
from llama_train.wording import counted


def prepare(
    out: OutOption,
    corpus: Annotated[
        str | None,
        typer.Option(help="A built-in corpus: pydoc (Python's own documentation, PSF licence)."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PATH[,PATH…][@WEIGHT]",
            help="Text, Markdown, JSONL or Parquet files, or folders of them; may be repeated. "
            "Batches draw from the sources in proportion to their weights.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Any SentencePiece .model. Default: train one."),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Pieces of a tokenizer trained here.")] = 512,
    held_out: Annotated[
        float, typer.Option(help="Share of the documents held out for evaluation.")
    ] = 0.08,
    text_key: Annotated[str, typer.Option(help="Key of the text in JSONL and Parquet.")] = "text",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that tokenise.")] = 1,
) -> None:
    """Turn text into memory-mapped token shards; run again, it goes on where it was."""
    from llama_train.prepare import PYDOC, Source, parse_source
    from llama_train.prepare import prepare as write

    if corpus not in (None, PYDOC):
        raise TrainError(f"No corpus is named {corpus!r}.", hint=f"There is {PYDOC}.")
    sources = [Source(PYDOC, ())] if corpus else []
    sources += [parse_source(text) for text in source or ()]
    if not sources:
        raise TrainError("Nothing to prepare.", hint="Name a --source or --corpus pydoc.")
    index = write(
        sources,
        out,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        held_out=held_out,
        text_key=text_key,
        jobs=jobs,
    )
    for split in ("train", "held_out"):
        shards = [shard for entry in index["sources"] for shard in entry[split]]
        tokens = sum(shard["tokens"] for shard in shards)
        documents = counted(sum(shard["documents"] for shard in shards), "document")
        print(f"{split.replace('_', '-')}: {counted(tokens, 'token')} in {documents}")
    print(
        f"vocabulary {index['tokenizer']['vocab_size']:,}, fingerprint {index['fingerprint'][:12]}"
    )
