"""What is trained and how: all that can be set, and how it is.

Everything is a frozen dataclass. A run is described by one `Config`; `--train.lr=1e-4` replaces one
field of it, and the resolved whole is saved with every run.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_train.errors import TrainError, nearest

Checkpointing = Literal["none", "selective", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The numbers that make a Llama (Touvron et al. 2023a, 2023b); named as Meta's `ModelArgs`."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    """Fewer than `n_heads`: grouped-query attention (34B and 70B)."""
    vocab_size: int = 32_000
    multiple_of: int = 256
    """The width of the feed-forward layer is rounded up to a multiple of this."""
    ffn_multiplier: float = 1.0
    context: int = 4096
    """Tokens in a training sequence."""
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Two thirds of 4·dim, times the multiplier, rounded up: 11,008 for the 7B."""
        width = int(self.ffn_multiplier * int(2 * (4 * self.dim) / 3))
        return self.multiple_of * -(-width // self.multiple_of)

    @property
    def architecture(self) -> dict[str, int | float]:
        """The numbers that decide whether weights of one model fit and mean the same in another."""
        return {
            "dim": self.dim,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "ffn_dim": self.ffn_dim,
            "vocab_size": self.vocab_size,
            "norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
        }

    @property
    def parameters_per_layer(self) -> int:
        kv_dim = self.n_kv_heads * self.head_dim
        attention = 2 * self.dim * self.dim + 2 * self.dim * kv_dim
        return attention + 3 * self.dim * self.ffn_dim + 2 * self.dim

    @property
    def parameters(self) -> int:
        """All parameters, to the unit, without allocating one."""
        embeddings = 2 * self.vocab_size * self.dim
        return embeddings + self.n_layers * self.parameters_per_layer + self.dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """The recipe. Defaults are the Llama 2 report's (section 2.2) unless noted."""

    steps: int
    batch_size: int = 1024
    """Sequences a step, over all ranks: 1,024 × 4,096 is the report's "4M tokens"."""
    micro_batch: int = 1
    """Sequences a rank computes at once; the rest of the batch is accumulated."""
    lr: float = 3e-4
    min_lr_ratio: float = 0.1
    warmup_steps: int = 2000
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-5
    weight_decay: float = 0.1
    """Our choice: on matrices, embeddings included, and not on norms. The report does not say."""
    clip: float = 1.0
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the compute; master weights and reductions are float32. auto: bfloat16 on a GPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile` of each block. auto: on a GPU."""
    activation_checkpointing: Checkpointing = "none"
    loss_chunks: int = 1
    """Above 1 the logits are made, and made again in backward, in so many parts: less memory."""
    eval_every: int = 1000
    eval_sequences: int = 1024
    max_bad_steps: int = 10
    """So many steps in a row with a loss or gradient that is not finite end the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How the ranks are laid out: replicate × shard × tensor = world size."""

    replicate: int = 1
    """Above 1: hybrid sharding (HSDP), with whole copies of the sharded model."""
    shard: int = 0
    """Ranks that share one copy of the weights (FSDP2). 0: all that are left."""
    tensor: int = 1
    """Ranks that share each matrix multiplication (tensor and sequence parallel)."""
    sync_gradients: Literal["each", "last"] = "each"
    """When sharded ranks exchange gradients: after each micro-batch, or once after the last, which
    is less traffic, but till then every rank holds float32 gradients of the whole model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    every: int = 1000
    keep_last: int = 2
    keep_every: int = 0
    """Checkpoints at a multiple of so many steps stay for good. 0: none do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run, resolved."""

    name: str
    model: ModelShape
    train: Train
    parallel: Parallel = field(default_factory=Parallel)
    checkpoint: Checkpoints = field(default_factory=Checkpoints)

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch_size * self.model.context

    @property
    def tokens(self) -> int:
        return self.train.steps * self.tokens_per_step

    def check(self) -> None:
        """Raise a TrainError for numbers out of range, or that do not fit together."""
        settings = keys(self)
        for bound, (holds, names) in _BOUNDS.items():
            for key in names.split():
                if not (math.isfinite(settings[key]) and holds(settings[key])):
                    raise TrainError(f"{key} is {settings[key]}; it must be {bound}.")
        shape = self.model
        if shape.dim % shape.n_heads or shape.head_dim % 2:
            raise TrainError(
                f"model.dim {shape.dim} is not an even multiple of model.n_heads {shape.n_heads}."
            )
        if shape.n_heads % shape.n_kv_heads:
            raise TrainError(
                f"model.n_heads {shape.n_heads} is not a multiple of "
                f"model.n_kv_heads {shape.n_kv_heads}."
            )


# What each number may be. Together they name every setting that is one.
_BOUNDS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "at least 1": (
        lambda value: value >= 1,
        "model.dim model.n_layers model.n_heads model.n_kv_heads model.vocab_size "
        "model.multiple_of model.context train.steps train.batch_size train.micro_batch "
        "train.loss_chunks train.eval_every train.eval_sequences train.max_bad_steps "
        "parallel.replicate parallel.tensor checkpoint.every checkpoint.keep_last",
    ),
    "at least 0": (
        lambda value: value >= 0,
        "train.warmup_steps train.weight_decay train.seed parallel.shard checkpoint.keep_every",
    ),
    "above 0": (
        lambda value: value > 0,
        "model.ffn_multiplier model.norm_eps model.rope_theta train.lr train.eps train.clip",
    ),
    "at least 0 and below 1": (lambda value: 0 <= value < 1, "train.beta1 train.beta2"),
    "between 0 and 1": (lambda value: 0 <= value <= 1, "train.min_lr_ratio"),
}


def layout(config: Config, ranks: int) -> tuple[int, int, int]:
    """(replicate, shard, tensor), whose product is the number of ranks.

    Raises TrainError if the ranks, the batch or the model cannot be divided so.
    """
    parallel, train = config.parallel, config.train
    rest = parallel.replicate * parallel.tensor
    shape = (parallel.replicate, parallel.shard or max(1, ranks // rest), parallel.tensor)
    if math.prod(shape) != ranks:
        raise TrainError(
            f"parallel.replicate {shape[0]} × shard {shape[1]} × tensor {shape[2]} is not the "
            f"number of ranks, {ranks}."
        )
    data_ranks = ranks // parallel.tensor
    if train.batch_size % (train.micro_batch * data_ranks):
        raise TrainError(
            f"train.batch_size {train.batch_size} is not a multiple of train.micro_batch "
            f"{train.micro_batch} × {data_ranks} data-parallel ranks.",
            hint="Fewer ranks, a smaller train.micro_batch or a larger parallel.tensor would do.",
        )
    for name in ("context", "n_heads", "n_kv_heads", "vocab_size"):
        if getattr(config.model, name) % parallel.tensor:
            raise TrainError(
                f"parallel.tensor {parallel.tensor} does not divide model.{name} "
                f"{getattr(config.model, name)}."
            )
    return shape


def override(config: Config, arguments: Sequence[str]) -> Config:
    """`--train.lr=1e-4` or `--train.lr 1e-4` replaces one field; the result is checked.

    Raises TrainError for an unknown key (with the nearest one) or a value of the wrong type.
    """
    left = list(arguments)
    while left:
        word = left.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise TrainError(
                f"Unexpected argument {word!r}.", hint="Overrides look like --train.lr=1e-4."
            )
        if key not in keys(config):
            raise TrainError(f"No option or setting is named --{key}{nearest(key, keys(config))}")
        if not equals:
            if not left:
                raise TrainError(
                    f"--{key} needs a value.", hint=f"For example --{key}={keys(config)[key]}."
                )
            text = left.pop(0)
        section, name = key.split(".")
        part = getattr(config, section)
        value = _parse(key, text, typing.get_type_hints(type(part))[name])
        config = dataclasses.replace(
            config, **{section: dataclasses.replace(part, **{name: value})}
        )
    config.check()
    return config


def keys(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name."""
    return {
        f"{section.name}.{setting.name}": getattr(getattr(config, section.name), setting.name)
        for section in dataclasses.fields(config)
        if section.name != "name"
        for setting in dataclasses.fields(getattr(config, section.name))
    }


def to_dict(config: Config) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_dict(data: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`. Raises TrainError if the data is not a configuration."""
    try:
        return Config(
            name=data["name"],
            model=ModelShape(**data["model"]),
            train=Train(**data["train"]),
            parallel=Parallel(**data["parallel"]),
            checkpoint=Checkpoints(**data["checkpoint"]),
        )
    except (KeyError, TypeError) as error:
        raise TrainError(f"Not a configuration of this version of llama_train: {error}.") from error


def _parse(key: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise TrainError(f"--{key} is {text!r}; it must be one of {', '.join(choices)}.")
        return text
    try:
        return kind(text.replace("_", "").replace(",", ""))
    except ValueError:
        raise TrainError(f"--{key} is {text!r}; it must be {_KINDS[kind]}.") from None


_KINDS = {int: "a whole number", float: "a number"}
