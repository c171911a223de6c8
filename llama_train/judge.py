"""The models that a stage only asks: reward models, and a chat model that answers.

Section 3.2.3 of the Llama 2 report says how the scores of two reward models are combined.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from llama_train.checkpoint import CHECKPOINTS, newest
from llama_train.config import Config
from llama_train.errors import TrainError
from llama_train.model import Transformer
from llama_train.reward import scores
from llama_train.tokenizer import tokenizer_beside
from llama_train.weights import Pretrained, open_pretrained
from llama_train.world import World, build, load_weights


@dataclass(frozen=True, slots=True)
class Models:
    """A chat model, and reward models of the same trunk and tokenizer."""

    base: Pretrained
    helpful: Pretrained | None
    safe: Pretrained | None
    tokenizer: Path
    source: str
    """What they are: what was drawn from these models is not continued with others."""

    @property
    def judges(self) -> list[Pretrained]:
        return [judge for judge in (self.helpful, self.safe) if judge is not None]


def open_models(base: Path, helpful: Path | None, safe: Path | None) -> Models:
    """Raises TrainError for a tokenizer or reward model that does not fit the chat model."""
    pretrained = open_pretrained(base)
    tokenizer_beside(base, pretrained.shape.vocab_size)  # or it is refused
    identities = [_identity(folder) for folder in (base, helpful, safe) if folder]
    return Models(
        pretrained,
        _reward_model(helpful, base, pretrained) if helpful else None,
        _reward_model(safe, base, pretrained) if safe else None,
        base / "tokenizer.model",
        hashlib.sha256(json.dumps(identities).encode()).hexdigest(),
    )


def _reward_model(folder: Path, base: Path, chat: Pretrained) -> Pretrained:
    found = open_pretrained(folder, head="scalar")
    if (folder / "tokenizer.model").read_bytes() != (base / "tokenizer.model").read_bytes():
        raise TrainError(f"{folder} is a reward model of another tokenizer than {base}'s.")
    if differences := found.shape.differences(replace(chat.shape, head=found.shape.head)):
        raise TrainError(
            f"{folder} is a reward model of another trunk than {base}: {', '.join(differences)}."
        )
    return found


def _identity(folder: Path) -> str:
    """What tells a run's newest checkpoint from others; the name, where it is no run."""
    if (folder / CHECKPOINTS).is_dir():
        return (newest(folder)[0] / "manifest.json").read_text()
    return str(folder.resolve())


def frozen(pretrained: Pretrained, config: Config, here: World) -> Transformer:
    """A model that is only asked, spread over the ranks as the configuration says."""
    shape = replace(pretrained.shape, context=config.model.context)
    # Answers grow by a token at a time, for which nothing could be compiled once.
    eager = replace(config.train, compile="off")
    model = build(replace(config, model=shape, train=eager), here)
    load_weights(model, pretrained.read, here)
    return model.requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Judge:
    """Frozen reward models, and how their scores are combined."""

    helpful: Transformer
    safe: Transformer | None
    threshold: float
    """Of the safety score as a probability: below it, safety decides alone."""

    @classmethod
    def of(cls, models: Models, config: Config, here: World) -> Judge:
        """The reward models of helpfulness and, if there is one, of safety."""
        assert config.sampling is not None
        assert models.helpful is not None
        safe = frozen(models.safe, config, here) if models.safe else None
        return cls(frozen(models.helpful, config, here), safe, config.sampling.threshold)

    def scores(
        self,
        dialogues: Sequence[Sequence[int]],
        kinds: Sequence[str],
        *,
        eos: int,
        micro_batch: int,
        ranks: int = 1,
    ) -> Tensor:
        """The score of each conversation (N), on the CPU. With several ranks each calls this alike.

        Safety's, where the prompt is of that kind or its probability is below the threshold; else
        helpfulness's. Both are before the sigmoid.
        """
        asked = {"eos": eos, "micro_batch": micro_batch, "ranks": ranks}
        helpful = scores_of(self.helpful, dialogues, **asked)
        if self.safe is None:
            return helpful
        safe = scores_of(self.safe, dialogues, **asked)
        unsafe_prompt = torch.tensor([kind == "safe" for kind in kinds])
        return combine(helpful, safe, unsafe_prompt, self.threshold)


def combine(helpful: Tensor, safe: Tensor, unsafe_prompt: Tensor, threshold: float) -> Tensor:
    return torch.where(unsafe_prompt | (safe.sigmoid() < threshold), safe, helpful)


@torch.no_grad()
def scores_of(
    model: Transformer,
    dialogues: Sequence[Sequence[int]],
    *,
    eos: int,
    micro_batch: int,
    ranks: int = 1,
) -> Tensor:
    """One reward model's score of each conversation (N), before the sigmoid, on the CPU."""
    device, rank = model.rope.device, dist.get_rank() if ranks > 1 else 0
    ended = [d if d[-1] == eos else [*d, eos] for d in map(list, dialogues)]
    share = -(-len(ended) // ranks)
    # Every rank computes equally often: a share is filled up with the last conversation.
    own = [ended[min(rank * share + i, len(ended) - 1)] for i in range(share)]
    found = []
    width = max(map(len, ended))
    for at in range(0, share, micro_batch):
        rows = own[at : at + micro_batch]
        tokens = torch.full((len(rows), width), eos)
        for row, dialogue in zip(tokens, rows, strict=True):
            row[: len(dialogue)] = torch.tensor(dialogue)
        ends = torch.tensor([len(dialogue) - 1 for dialogue in rows])
        found.append(scores(model, tokens.to(device), ends.to(device)))
    mine = torch.cat(found)
    if ranks > 1:
        parts = [torch.empty_like(mine) for _ in range(ranks)]
        dist.all_gather(parts, mine)
        mine = torch.cat(parts)
    return mine[: len(ended)].float().cpu()
