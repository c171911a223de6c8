"""The stages of Llama 2-Chat: their constants, and the run that follows from them and the data.

Section 3 of the Llama 2 report; each constant was read again in a transcript of it. What the
report does not give is our choice, and says so; the demo's are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llama_train.config import PPO, Checkpoints, Config, ModelShape, Reward, Sampling, Train
from llama_train.errors import TrainError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The constants of one stage."""

    lr: float
    batch_size: int
    epochs: float = 1.0
    iterations: int | None = None
    """Steps, where they do not follow from the data."""
    min_lr_ratio: float = 0.1
    warmup_share: float = 0.0
    warmup_least: int = 0
    micro_batch: int = 1
    eval_sequences: int = 1024
    dtype: Literal["auto", "float32"] = "auto"
    reward: Reward | None = None
    sampling: Sampling | None = None
    ppo: PPO | None = None
    unused: tuple[str, ...] = ()
    """Settings that have no effect here: no list has them, and none can be replaced."""

    def config(
        self, name: str, shape: ModelShape, sequences: int, epochs: float | None = None
    ) -> Config:
        """The run on so many sequences. Raises TrainError for epochs out of range."""
        epochs = self.epochs if epochs is None else epochs
        if not 0 < epochs < math.inf:
            raise TrainError(f"--epochs is {epochs}; it must be above 0.")
        steps = self.iterations or max(1, math.ceil(epochs * sequences / self.batch_size))
        train = Train(
            steps=steps,
            batch_size=self.batch_size,
            micro_batch=self.micro_batch,
            lr=self.lr,
            min_lr_ratio=self.min_lr_ratio,
            warmup_steps=min(steps, max(self.warmup_least, int(self.warmup_share * steps))),
            eval_every=max(1, steps // 4),
            eval_sequences=self.eval_sequences,
            dtype=self.dtype,
            # The policy also draws; for answers that grow nothing could be compiled once.
            compile="off" if self.ppo is not None else "auto",
        )
        return Config(
            name=name,
            model=shape,
            train=train,
            checkpoint=Checkpoints(every=max(1, steps // 2)),
            reward=self.reward,
            sampling=self.sampling,
            ppo=self.ppo,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """The recipe of one chat model."""

    base: str
    """The preset that is pretrained before."""
    finetune: Stage
    reward: Stage
    rejection: Stage
    ppo: Stage

    @property
    def stages(self) -> Mapping[str, Stage]:
        names = ("finetune", "reward", "rejection", "ppo")
        return {name: getattr(self, name) for name in names}


# Its answers are judged by one reward model of safety alone, which has no threshold.
_FINETUNE_UNUSED = ("sampling.threshold",)
# A score of each text has no logits.
_REWARD_UNUSED = ("train.loss_chunks",)
# An answer to each prompt is drawn from the policy as it is: nothing is cut off or sharpened. Its
# log-probabilities are taken of all logits at once.
_PPO_UNUSED = (
    "train.loss_chunks",
    "sampling.samples",
    "sampling.temperature",
    "sampling.top_p",
)


def _report(base: str, *, reward_lr: float, kl: float) -> Chat:
    """The warm-up of fine-tuning is our choice, a twentieth. Rejection sampling's answers are
    learnt like fine-tuning's; how many are drawn is our choice (the report's figures go to 100)."""
    tune = {"lr": 2e-5, "batch_size": 64, "warmup_share": 0.05, "warmup_least": 1}
    return Chat(
        base=base,
        finetune=Stage(
            epochs=2,
            sampling=Sampling(),
            unused=_FINETUNE_UNUSED,
            **tune,  # type: ignore[arg-type]
        ),
        reward=Stage(
            lr=reward_lr,
            batch_size=512,
            warmup_share=0.03,
            warmup_least=5,
            reward=Reward(),
            unused=_REWARD_UNUSED,
        ),
        rejection=Stage(sampling=Sampling(samples=16), **tune),  # type: ignore[arg-type]
        # Our choice between 200 and 400 iterations.
        ppo=Stage(
            lr=1e-6,
            batch_size=512,
            iterations=300,
            min_lr_ratio=1.0,
            eval_sequences=128,
            sampling=Sampling(),
            ppo=PPO(kl=kl),
            unused=_PPO_UNUSED,
        ),
    )


CHATS: Mapping[str, Chat] = {
    "chat-7b": _report("llama2-7b", reward_lr=1e-5, kl=0.01),
    "chat-13b": _report("llama2-13b", reward_lr=1e-5, kl=0.01),
    "chat-34b": _report("llama2-34b", reward_lr=1e-5, kl=0.005),
    "chat-70b": _report("llama2-70b", reward_lr=5e-6, kl=0.005),
    # In float32, for casting and gathering weights costs a model this small more than it saves.
    "chat-demo": Chat(
        base="demo",
        finetune=Stage(
            lr=1e-3,
            batch_size=8,
            micro_batch=8,
            warmup_share=0.1,
            eval_sequences=32,
            dtype="float32",
            sampling=Sampling(tokens=32),
            unused=_FINETUNE_UNUSED,
        ),
        reward=Stage(
            lr=5e-4,
            batch_size=32,
            micro_batch=32,
            epochs=2,
            warmup_share=0.1,
            eval_sequences=256,
            dtype="float32",
            reward=Reward(),
            unused=_REWARD_UNUSED,
        ),
        rejection=Stage(
            lr=1e-3,
            batch_size=8,
            micro_batch=8,
            epochs=3,
            warmup_share=0.1,
            eval_sequences=32,
            dtype="float32",
            sampling=Sampling(samples=8, tokens=32),
        ),
        ppo=Stage(
            lr=3e-4,
            batch_size=64,
            micro_batch=16,
            iterations=12,
            min_lr_ratio=1.0,
            eval_sequences=64,
            dtype="float32",
            sampling=Sampling(tokens=32),
            ppo=PPO(mini_batch=16, kl=0.03),
            unused=_PPO_UNUSED,
        ),
    ),
}


def chat(name: str) -> Chat:
    """Raises TrainError for an unknown name, with the nearest one."""
    if name not in CHATS:
        raise TrainError(
            f"No chat preset is named {name!r}{nearest(name, CHATS)}",
            hint=f"There are {', '.join(CHATS)}.",
        )
    return CHATS[name]
