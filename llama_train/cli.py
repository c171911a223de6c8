"""The commands. Each parses, calls one function and prints; what it does is elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama_train.errors import TrainError, make_folder

if TYPE_CHECKING:
    from llama_train.config import Config
    from llama_train.data import Data
    from llama_train.model import Transformer

app = typer.Typer(
    name="llama_train",
    help="Llama 2 pretraining as in the report, from a laptop to a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Settings such as --train.lr=1e-4 are no options that typer knows; the command gets them raw.
_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")]
PresetOption = Annotated[str, typer.Option("--preset", metavar="NAME", help="See `presets`.")]
DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Folder that `prepare` wrote.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out, if any.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run that --out holds.")
]


@app.command()
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
        float, typer.Option(help="Share of the documents kept for evaluation.")
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
        raise TrainError("There is nothing to prepare.", hint="Name a --source or --corpus pydoc.")
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
        count = sum(shard["documents"] for shard in shards)
        print(f"{split.replace('_', '-')}: {tokens:,} tokens in {count:,} documents")
    print(
        f"vocabulary {index['tokenizer']['vocab_size']:,}, fingerprint {index['fingerprint'][:12]}"
    )


@app.command(context_settings=_OVERRIDES)
def train(
    context: typer.Context,
    data: DataOption,
    out: OutOption,
    preset: PresetOption = "demo",
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Pretrain. Any setting of the preset can be replaced: --train.lr=1e-4 --model.context=256 …

    `presets NAME` lists them. Under torchrun the ranks share the work.
    """
    from llama_train import config as configs
    from llama_train import presets as models
    from llama_train.data import TokenData

    config = configs.override(models.preset(preset), context.args)
    leads = os.environ.get("RANK", "0") == "0"
    tokens = TokenData(data, config.model.context, seed=config.train.seed, verify=leads)
    _check_vocabulary(tokens.tokenizer, tokens.vocab_size, config)
    _train(config, tokens, out, resume=resume, overwrite=overwrite)


WEIGHTS = "A run, a Hugging Face folder or a Meta folder."
RunArgument = Annotated[Path, typer.Argument(metavar="DIR", help=WEIGHTS)]


@app.command(context_settings=_OVERRIDES)
def finetune(
    context: typer.Context,
    base: Annotated[Path, typer.Option("--from", metavar="DIR", help=WEIGHTS)],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Chat JSONL.")],
    out: OutOption,
    epochs: Annotated[float, typer.Option(help="Times that each conversation is seen.")] = 2.0,
    held_out: Annotated[float, typer.Option(help="Share of the conversations.")] = 0.05,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Fine-tune on conversations: {"messages": [{"role": "user", "content": …}, …]} on each line.

    Loss on the answers only, in Llama 2's chat template. Settings can be replaced as in `train`.
    """
    from llama_train import config as configs
    from llama_train.finetune import ChatData, recipe
    from llama_train.hf import load_pretrained
    from llama_train.world import load_weights

    model = load_pretrained(base)
    tokenizer, name = base / "tokenizer.model", f"{base.name}-chat"

    def settings(sequences: int) -> Config:
        return configs.override(recipe(name, model.shape, sequences, epochs), context.args)

    first = settings(1)
    chats = ChatData(data, tokenizer, first.model.context, held_out=held_out, seed=first.train.seed)
    config = settings(chats.sequences)
    _check_vocabulary(tokenizer, chats.vocab_size, config)
    if chats.too_long:
        print(f"{chats.too_long} conversations are longer than the context", file=sys.stderr)
    weights = model.state_dict()
    _train(
        config,
        chats,
        out,
        resume=resume,
        overwrite=overwrite,
        initial=lambda sharded: load_weights(sharded, weights),
    )


@app.command()
def generate(
    folder: RunArgument,
    prompt: Annotated[str, typer.Option(help="Text to go on from.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to add, at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: always the likeliest.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: int = 0,
) -> None:
    """Continue a prompt, to see what a checkpoint has learnt."""
    from llama_train import generate as generation
    from llama_train.hf import load_pretrained
    from llama_train.tokenizer import Tokenizer

    pieces = Tokenizer(folder / "tokenizer.model")
    start = [pieces.bos, *pieces.encode(prompt)]
    added = generation.generate(
        load_pretrained(folder),
        start,
        count=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=pieces.eos,
    )
    print(pieces.decode([*start, *added]))


@app.command()
def export(folder: RunArgument, out: OutOption) -> None:
    """Write the weights as Hugging Face's `LlamaForCausalLM` reads them (safetensors)."""
    from llama_train import hf

    tokenizer = folder / "tokenizer.model"
    hf.export(
        hf.load_pretrained(folder), out, tokenizer.read_bytes() if tokenizer.is_file() else None
    )
    print(f"{folder} -> {out}")


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="List the settings of this one.")] = None,
) -> None:
    """The models, as in Table 1 of the Llama 2 report; or all settings of one."""
    from llama_train import config as configs
    from llama_train import presets as models

    if name:
        for key, value in configs.keys(models.preset(name)).items():
            print(f"--{key}={value}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("preset", "parameters", "context", "GQA", "tokens", "peak LR"):
        table.add_column(heading, justify="left" if heading in ("preset", "GQA") else "right")
    for config in models.PRESETS.values():
        shape = config.model
        table.add_row(
            config.name,
            f"{shape.parameters:,}",
            f"{shape.context:,}",
            "yes" if shape.n_kv_heads < shape.n_heads else "no",
            _short(config.tokens),
            f"{config.train.lr:.1e}",
        )
    Console(soft_wrap=True).print(table)


class Format(StrEnum):
    """Output for people or for programs."""

    text = "text"
    json = "json"


@app.command(context_settings=_OVERRIDES)
def plan(
    context: typer.Context,
    preset: PresetOption,
    gpus: Annotated[int, typer.Option(help="How many.")] = 1,
    device: Annotated[str, typer.Option(help="As the driver names it.")] = "NVIDIA A100-SXM4-80GB",
    mfu: Annotated[
        float | None,
        typer.Option(help="0 … 1. Default: what the published hours imply, else 0.4."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The --out folder of a run: plan with its measured MFU.")
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="W per GPU. Default: the report's on its A100, else rated.")
    ] = None,
    pue: Annotated[float | None, typer.Option(help="Default: the report's 1.1.")] = None,
    intensity: Annotated[
        float | None, typer.Option(help="kgCO2e/kWh. Default: the report's 0.385.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="Money per GPU-hour.")] = None,
    form: Annotated[
        Format, typer.Option("--format", metavar="text|json", help="For people, or for programs.")
    ] = Format.text,
) -> None:
    """Estimate memory per GPU, time, energy, carbon and money of a training, without any GPU."""
    from llama_train import config as configs
    from llama_train import plan as planning
    from llama_train import presets as models

    result = planning.plan(
        configs.override(models.preset(preset), context.args),
        gpus=gpus,
        device_name=device,
        mfu=planning.measured_mfu(run) if run is not None and mfu is None else mfu,
        power_w=power,
        pue=pue,
        intensity=intensity,
        price=price,
    )
    print(planning.as_json(result) if form is Format.json else planning.as_text(result))


def main() -> None:
    """Run the command line; an error that the user can mend is one line and an exit code."""
    rank = int(os.environ.get("RANK", "0"))
    who = f"llama_train (rank {rank})" if "RANK" in os.environ else "llama_train"
    try:
        app()
    except (TrainError, OSError) as caught:
        error = _from_the_system(caught) if isinstance(caught, OSError) else caught
        # Bad use is the same on all ranks, and one says so; what goes wrong later may be one's own.
        if rank == 0 or error.exit_code != 2:
            print(f"{who}: {error}", file=sys.stderr)
        _tell_torchrun(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"{who}: interrupted", file=sys.stderr)
        sys.exit(130)


def _from_the_system(error: OSError) -> TrainError:
    """A disk that is full, a file that another user owns: what is on disk stays as it is."""
    where = f" ({error.filename})" if error.filename else ""
    return TrainError(f"{error.strerror or error}{where}.", exit_code=1)


def _tell_torchrun(line: str) -> None:
    """For its table of failures, which would else say where to read about tracebacks."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": line, "timestamp": int(time.time())}
        Path(file).write_text(json.dumps(content))


def _train(
    config: Config,
    data: Data,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    initial: Callable[[Transformer], None] | None = None,
) -> None:
    """Pretraining and fine-tuning end alike: a line for people, or after a stop signal 143."""
    import torch

    from llama_train.train import Preempted
    from llama_train.train import train as run

    if (out / "checkpoints").exists() and not resume:
        if not overwrite:
            raise TrainError(f"{out} already holds a run.", hint="Add --resume or --overwrite.")
        if os.environ.get("RANK", "0") == "0":
            shutil.rmtree(out)
    make_folder(out)
    try:
        result = run(config, data, out, resume=resume, initial=initial)
    except Preempted:
        sys.exit(128 + signal.SIGTERM)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "CPUAllocator" not in str(error):
            raise
        raise TrainError(
            f"Out of memory: {str(error).splitlines()[0]}",
            hint="Lower --train.micro_batch, set --train.activation_checkpointing=full or "
            "--train.loss_chunks=8, or share the weights among more ranks.",
            exit_code=1,
        ) from error
    if result.leads:
        progress, first = result.progress, result.progress.first_held_out_loss
        print(
            f"{config.name}: held-out loss {first:.2f} -> {result.held_out_loss:.2f} in "
            f"{progress.step:,} steps, {progress.tokens:,} tokens, {progress.seconds:.0f} s"
        )


def _check_vocabulary(tokenizer: Path, pieces: int, config: Config) -> None:
    if pieces > config.model.vocab_size:
        raise TrainError(
            f"{tokenizer} has {pieces} pieces, the model only {config.model.vocab_size}.",
            hint=f"Add --model.vocab_size={pieces}.",
        )


def _short(tokens: int) -> str:
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if tokens >= size:
            return f"{tokens / size:.2f}{sign}"
    return str(tokens)
