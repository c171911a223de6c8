"""What is trained and how: all that can be set, and how it is.

Everything is a frozen dataclass. A run is described by one `Config`; `--train.lr=1e-4` replaces one
field of it, and the resolved whole is saved with every run.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from llama_train.errors import TrainError, nearest
from llama_train.wording import counted

Checkpointing = Literal["none", "selective", "full"]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a number must be."""

    words: str
    holds: Callable[[float], bool]


Count = Annotated[int, Bound("at least 1", lambda value: value >= 1)]
Natural = Annotated[int, Bound("at least 0", lambda value: value >= 0)]
Positive = Annotated[float, Bound("above 0", lambda value: value > 0)]
NotNegative = Annotated[float, Bound("at least 0", lambda value: value >= 0)]
Decay = Annotated[float, Bound("at least 0 and below 1", lambda value: 0 <= value < 1)]
Share = Annotated[float, Bound("between 0 and 1", lambda value: 0 <= value <= 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The numbers that make a Llama (Touvron et al. 2023a, 2023b); named as Meta's `ModelArgs`."""

    dim: Count
    n_layers: Count
    n_heads: Count
    n_kv_heads: Count
    """Fewer than `n_heads`: grouped-query attention (34B and 70B)."""
    vocab_size: Count = 32_000
    multiple_of: Count = 256
    """The width of the feed-forward layer is rounded up to a multiple of this."""
    ffn_multiplier: Positive = 1.0
    context: Count = 4096
    """Tokens in a training sequence."""
    norm_eps: Positive = 1e-5
    rope_theta: Positive = 10_000.0
    head: Literal["tokens", "scalar"] = "tokens"
    """What the last layer gives for each token: the next one's logits, or a reward or value."""

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Two thirds of 4·dim, times the multiplier, rounded up: 11,008 for the 7B."""
        width = int(self.ffn_multiplier * int(2 * (4 * self.dim) / 3))
        return self.multiple_of * -(-width // self.multiple_of)

    @property
    def outputs(self) -> int:
        """Numbers for each token."""
        return self.vocab_size if self.head == "tokens" else 1

    @property
    def architecture(self) -> dict[str, int | float | str]:
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
            "head": self.head,
        }

    def differences(self, wanted: ModelShape) -> list[str]:
        """In what the architecture is not the wanted one: "n_layers 2 instead of 1"."""
        pairs = zip(self.architecture.items(), wanted.architecture.values(), strict=True)
        return [f"{key} {value} instead of {want}" for (key, value), want in pairs if value != want]

    @property
    def parameters_per_layer(self) -> int:
        kv_dim = self.n_kv_heads * self.head_dim
        attention = 2 * self.dim * self.dim + 2 * self.dim * kv_dim
        return attention + 3 * self.dim * self.ffn_dim + 2 * self.dim

    @property
    def parameters(self) -> int:
        """All parameters, to the unit, without allocating one."""
        embeddings = (self.vocab_size + self.outputs) * self.dim
        return embeddings + self.n_layers * self.parameters_per_layer + self.dim

    def check(self) -> None:
        """Raise TrainError for numbers out of range, or that do not fit together."""
        _check("model", self)
        if self.dim % self.n_heads or self.head_dim % 2:
            raise TrainError(
                f"model.dim {self.dim} is not an even multiple of model.n_heads {self.n_heads}."
            )
        if self.n_heads % self.n_kv_heads:
            raise TrainError(
                f"model.n_heads {self.n_heads} is not a multiple of "
                f"model.n_kv_heads {self.n_kv_heads}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """The recipe. Defaults are the Llama 2 report's (section 2.2) unless noted."""

    steps: Count
    batch_size: Count = 1024
    """Sequences a step, over all ranks: 1,024 × 4,096 is the report's "4M tokens"."""
    micro_batch: Count = 1
    """Sequences a rank computes at once; the rest of the batch is accumulated."""
    lr: Positive = 3e-4
    min_lr_ratio: Share = 0.1
    warmup_steps: Natural = 2000
    beta1: Decay = 0.9
    beta2: Decay = 0.95
    eps: Positive = 1e-5
    weight_decay: NotNegative = 0.1
    """Our choice: on matrices, embeddings included, and not on norms. The report does not say."""
    clip: Positive = 1.0
    seed: Natural = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the compute; master weights and reductions are float32. auto: bfloat16 where the
    device multiplies it in hardware (from A100 on; CPUs with AVX512-BF16 or AMX)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile` of each block. auto: on a GPU."""
    activation_checkpointing: Checkpointing = "none"
    loss_chunks: Count = 1
    """Above 1 the logits are made, and made again in backward, in so many parts: less memory."""
    eval_every: Count = 1000
    eval_sequences: Count = 1024
    max_bad_steps: Count = 10
    """So many steps in a row with a loss or gradient that is not finite end the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How the ranks are laid out: replicate × shard × tensor = world size."""

    replicate: Count = 1
    """Above 1: hybrid sharding (HSDP), with whole copies of the sharded model."""
    shard: Natural = 0
    """Ranks that share one copy of the weights (FSDP2). 0: all that are left."""
    tensor: Count = 1
    """Ranks that share each matrix multiplication (tensor and sequence parallel)."""
    sync_gradients: Literal["each", "last"] = "each"
    """When sharded ranks exchange gradients: after each micro-batch, or once after the last, which
    is less traffic, but till then every rank holds float32 gradients of the whole model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    every: Count = 1000
    keep_last: Count = 2
    keep_every: Natural = 0
    """Checkpoints at a multiple of so many steps stay for good. 0: none do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """Of a reward model."""

    margin: Literal["none", "small", "large"] = "large"
    """By how much an answer that is better must score more: nothing, up to 1, or up to 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are drawn from a model."""

    samples: Count = 1
    """Answers to a prompt, of which the best is learnt (rejection sampling), or the first that says
    something (fine-tuning)."""
    tokens: Count = 512
    """An answer has at most so many."""
    temperature: Positive = 1.0
    top_p: Share = 1.0
    threshold: Share = 0.15
    """Below this probability of being safe, the safety score counts and not the helpfulness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PPO:
    """Proximal policy optimization (section 3.2.3). A step of `train` is an iteration."""

    mini_batch: Count = 64
    """Answers for one optimizer step; an iteration has train.batch_size of them."""
    clip: Positive = 0.2
    """The ratio of new to old probability counts up to 1 ± this."""
    kl: NotNegative = 0.01
    """The weight β of the divergence from the first policy."""
    discount: Share = 1.0
    """Our choice, like the critic: the report does not say how advantages are estimated."""
    gae_lambda: Share = 0.95
    """Of generalised advantage estimation (Schulman et al. 2016). Our choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run, resolved."""

    name: str
    model: ModelShape
    train: Train
    parallel: Parallel = field(default_factory=Parallel)
    checkpoint: Checkpoints = field(default_factory=Checkpoints)
    reward: Reward | None = None
    sampling: Sampling | None = None
    ppo: PPO | None = None

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch_size * self.model.context

    @property
    def tokens(self) -> int:
        return self.train.steps * self.tokens_per_step

    def check(self) -> None:
        """Raise TrainError for a value of the wrong type or out of range, or a misfit of two."""
        self.model.check()
        for section in ("train", "parallel", "checkpoint", *_OPTIONAL):
            if (part := getattr(self, section)) is not None:
                _check(section, part)


_OPTIONAL = {"reward": Reward, "sampling": Sampling, "ppo": PPO}
"""Sections that only some stages have."""


def _check(section: str, part: Any) -> None:
    """Raise TrainError unless each field is what its annotation says."""
    for name, kind in _kinds(type(part)).items():
        value = getattr(part, name)
        if typing.get_origin(kind) is Literal:
            wanted = f"one of {', '.join(typing.get_args(kind))}"
            fits = value in typing.get_args(kind)
        else:
            number, bound = typing.get_args(kind)
            wanted = _NUMBERS[number]
            fits = type(value) in (int, number) and math.isfinite(value)
            if fits:
                wanted, fits = bound.words, bound.holds(value)
        if not fits:
            raise TrainError(f"{section}.{name} is {value}; it must be {wanted}.")


_NUMBERS = {int: "a whole number", float: "a number"}


def _kinds(section: type) -> dict[str, Any]:
    """A Literal, or a number with its Bound, for each field."""
    return typing.get_type_hints(section, include_extras=True)


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
            f"{train.micro_batch} × {counted(data_ranks, 'data-parallel rank')}.",
            hint="Fewer ranks, a smaller train.micro_batch or a larger parallel.tensor would do.",
        )
    for name in ("context", "n_heads", "n_kv_heads", "vocab_size", "outputs"):
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
        value = _parse(text, _kinds(type(part))[name])
        config = dataclasses.replace(
            config, **{section: dataclasses.replace(part, **{name: value})}
        )
    config.check()
    return config


def keys(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name."""
    sections = dataclasses.asdict(config)
    del sections["name"]
    return {
        f"{section}.{name}": value
        for section, part in sections.items()
        if part is not None
        for name, value in part.items()
    }


def from_dict(data: Any, place: object) -> Config:
    """The inverse of `dataclasses.asdict`.

    Raises TrainError, which names the `place`, if the data is not a configuration.
    """
    try:
        config = Config(
            name=str(data["name"]),
            model=ModelShape(**data["model"]),
            train=Train(**data["train"]),
            parallel=Parallel(**data["parallel"]),
            checkpoint=Checkpoints(**data["checkpoint"]),
            **{key: kind(**data[key]) for key, kind in _OPTIONAL.items() if data.get(key)},
        )
    except (LookupError, TypeError) as error:
        raise TrainError(f"{place} holds no configuration of this llama_train.") from error
    try:
        config.check()
    except TrainError as error:
        raise TrainError(f"{place}: {error}") from error
    return config


def _parse(text: str, kind: Any) -> Any:
    """The value that the text stands for, or the text itself, which `check` then refuses.

    A comma is a sign of thousands only in a whole number: 0,0003 may be meant as a decimal.
    """
    if typing.get_origin(kind) is Literal:
        return text
    number = typing.get_args(kind)[0]
    if number is int and re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", text, re.ASCII):
        text = text.replace(",", "")
    try:
        return number(text)
    except ValueError:
        return text
