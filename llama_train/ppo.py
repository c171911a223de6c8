"""Proximal policy optimization against reward models: section 3.2.3 of the Llama 2 report.

An iteration draws an answer to each of train.batch_size prompts, scores it, and takes one step for
each mini-batch. The reward of an answer is its whitened score at its last token, and at each token
-β (log π - log π₀). The report does not say how advantages are estimated: the critic, a copy of the
helpfulness model with a value for each token, and generalised advantage estimation are our choice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from llama_train.advantage import (
    estimate_advantages,
    log_probabilities,
    policy_loss,
    value_loss,
    whiten,
)
from llama_train.checkpoint import CHECKPOINTS, Parts, checkpoints
from llama_train.config import PPO, Config, Sampling
from llama_train.data import Batch, Prefetch, held_out_sample
from llama_train.errors import TrainError
from llama_train.generate import sample
from llama_train.judge import Judge, Models, frozen
from llama_train.model import Transformer
from llama_train.optim import adamw
from llama_train.prompts import Prompt, PromptData, split
from llama_train.tokenizer import Tokenizer
from llama_train.train import Loop, Measures, Objective, Result, open_run
from llama_train.vocabulary import EventKind, Phase
from llama_train.wording import counted
from llama_train.world import World, build, load_weights


def prompt_data(
    prompts: Sequence[Prompt], models: Models, config: Config, held_out: float
) -> PromptData:
    """Raises TrainError if there is none to train on, or none held out."""
    assert config.sampling is not None
    return PromptData(
        *split(prompts, held_out),
        models.tokenizer,
        config.train.seed,
        models.source,
        config.sampling.tokens,
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers and what is known of them: N of them, padded to T tokens with their prompts."""

    tokens: Tensor
    """(N, T)"""
    mask: Tensor
    """(N, T - 1): which of the tokens but the first are of the answer."""
    scores: Tensor
    """(N), before the sigmoid."""
    log_p: Tensor
    """(N, T - 1), under the policy that drew them."""
    log_p_first: Tensor
    """(N, T - 1), under the first policy."""
    values: Tensor
    """(N, T - 1), the critic's."""

    @property
    def divergence(self) -> Tensor:
        """log π - log π₀ of each token of the answers (N, T - 1); its mean is that of the KL."""
        return (self.log_p - self.log_p_first) * self.mask


@dataclass(slots=True, kw_only=True)
class Alignment(Loop):
    """The train loop whose step is an iteration of PPO."""

    critic: Transformer
    critic_optimizer: torch.optim.AdamW
    first: Transformer
    """The policy as it was at first, π₀."""
    judge: Judge
    pieces: Tokenizer
    ppo: PPO
    sampling: Sampling

    @property
    def parts(self) -> Parts:
        critic = {"critic_": (self.critic, self.critic_optimizer)}
        return {"": (self.model, self.optimizer), **critic}

    @property
    def asked(self) -> PromptData:
        return cast(PromptData, self.data)

    def batches(self, step: int) -> list[Batch]:
        """Nothing is read ahead: an iteration makes its own."""
        return []

    def step(self, batches: Prefetch[list[Batch]], stop_asked: Callable[[], bool]) -> bool:
        train, progress, step = self.config.train, self.progress, self.progress.step + 1
        started_s = time.perf_counter()
        numbers = range((step - 1) * train.batch_size, step * train.batch_size)
        prompts = [self.asked.prompt(number) for number in numbers]
        keys = [f"{train.seed}/ppo/{number}" for number in numbers]
        answers = self.answer(prompts, keys)
        losses, norms, stops = [], [], False
        with self.log.phase(Phase.UPDATE):
            advantages, returns = self.advantages(answers)
            for at in range(0, train.batch_size, self.ppo.mini_batch):
                rows = range(at, at + self.ppo.mini_batch)
                loss = self.learn(answers, advantages, returns, rows)
                mean, both, asked = self.totals(loss, stop_asked)
                lr = self.apply(step, mean, both)
                losses.append(mean)
                norms.append(both[0])
                stops |= asked
        progress.step = step
        tokens = int(answers.mask.sum())
        progress.tokens += tokens
        seconds = time.perf_counter() - started_s
        progress.seconds += seconds
        self.report(
            sum(losses) / len(losses),
            lr,
            sum(norms) / len(norms),
            tokens,
            seconds,
            reward=answers.scores.mean().item(),
            kl=answers.divergence.sum(-1).mean().item(),
        )
        return stops

    @torch.no_grad()
    def answer(self, prompts: Sequence[Prompt], keys: Sequence[str]) -> Answers:
        """Draw an answer to each prompt, and ask every model about it."""
        micro_batch, ranks = self.config.train.micro_batch, self.here.size
        with self.log.phase(Phase.GENERATE):
            answers = sample(
                self.model,
                [prompt.tokens for prompt in prompts],
                count=self.sampling.tokens,
                temperature=1.0,  # what the policy is: nothing is cut off or sharpened
                keys=keys,
                stop=self.pieces.eos,
                ranks=ranks,
            )
        with self.log.phase(Phase.SCORE):
            dialogues = [[*p.tokens, *a] for p, a in zip(prompts, answers, strict=True)]
            width = max(map(len, dialogues))
            tokens = torch.full((len(dialogues), width), self.pieces.eos)
            mask = torch.zeros((len(dialogues), width - 1), dtype=torch.bool)
            for number, (prompt, dialogue) in enumerate(zip(prompts, dialogues, strict=True)):
                tokens[number, : len(dialogue)] = torch.tensor(dialogue)
                mask[number, len(prompt.tokens) - 1 : len(dialogue) - 1] = True
            scores = self.judge.scores(
                dialogues,
                [prompt.kind for prompt in prompts],
                eos=self.pieces.eos,
                micro_batch=micro_batch,
                ranks=ranks,
            )
            tokens = tokens.to(self.here.device)
            return Answers(
                tokens,
                mask.to(tokens.device),
                scores.to(tokens.device),
                self.of_all(lambda rows: log_probabilities(self.model, rows), tokens),
                self.of_all(lambda rows: log_probabilities(self.first, rows), tokens),
                self.of_all(lambda rows: self.critic(rows[:, :-1])[..., 0], tokens),
            )

    def of_all(self, compute: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """What is computed of each row, by this rank of its share, from all ranks."""
        share, micro_batch = -(-len(tokens) // self.here.size), self.config.train.micro_batch
        places = torch.arange(share, device=tokens.device) + self.here.rank * share
        own = tokens[places.clamp(max=len(tokens) - 1)]
        found = torch.cat([compute(own[i : i + micro_batch]) for i in range(0, share, micro_batch)])
        if self.here.size == 1:
            return found
        parts = [torch.empty_like(found) for _ in range(self.here.size)]
        dist.all_gather(parts, found.contiguous())
        return torch.cat(parts)[: len(tokens)]

    def advantages(self, answers: Answers) -> tuple[Tensor, Tensor]:
        """Whitened advantages, and the returns that the critic learns."""
        rewards = -self.ppo.kl * answers.divergence
        # The place of each answer's last token.
        last = answers.mask.shape[1] - 1 - answers.mask.flip(1).int().argmax(1)
        rewards[torch.arange(len(last)), last] += whiten(answers.scores)
        advantages, returns = estimate_advantages(
            rewards, answers.values, answers.mask, self.ppo.discount, self.ppo.gae_lambda
        )
        white = torch.zeros_like(advantages)
        white[answers.mask] = whiten(advantages[answers.mask])
        return white, returns

    def learn(self, answers: Answers, advantages: Tensor, returns: Tensor, rows: range) -> Tensor:
        """Accumulate gradients of a mini-batch; returns this rank's part of its mean loss."""
        share, micro_batch = len(rows) // self.here.size, self.config.train.micro_batch
        tokens = answers.mask[rows.start : rows.stop].sum()
        total = torch.zeros((), device=self.here.device)
        start = rows.start + self.here.rank * share
        for at in range(start, start + share, micro_batch):
            part = slice(at, at + micro_batch)
            mask = answers.mask[part]
            new = log_probabilities(self.model, answers.tokens[part])
            values = self.critic(answers.tokens[part, :-1])[..., 0]
            losses = policy_loss(new, answers.log_p[part], advantages[part], self.ppo.clip)
            losses = losses + value_loss(values, returns[part])
            loss = (losses * mask).sum() / tokens
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def evaluate(self) -> Mapping[str, float]:
        """The reward and divergence of answers to held-out prompts, always drawn alike."""
        numbers = held_out_sample(self.asked, self.config.train.eval_sequences)
        prompts = [self.asked.held_out_prompts[number] for number in numbers]
        keys = [f"{self.config.train.seed}/eval/{number}" for number in numbers]
        with self.log.phase(Phase.EVAL):
            answers = self.answer(prompts, keys)
        found = {"reward": answers.scores, "kl": answers.divergence.sum(-1)}
        means = {name: values.mean().item() for name, values in found.items()}
        errors = {f"{name}_error": standard_error(values) for name, values in found.items()}
        step = self.progress.step
        self.log.event(
            EventKind.EVAL,
            f"held-out reward {means['reward']:.3f} ± {errors['reward_error']:.3f}, KL "
            f"{means['kl']:.2f} ± {errors['kl_error']:.2f} nats an answer at step {step:,}",
            step=step,
            tokens=int(answers.mask.sum()),
            **means,
            **errors,
        )
        return means


def standard_error(values: Tensor) -> float:
    """Of their mean; not a number for a single one."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def align(
    config: Config,
    data: PromptData,
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    models: Models,
    resume: bool,
    overwrite: bool,
) -> Result:
    """PPO of the chat model until `train.steps` iterations; fails and stops like any training."""
    assert config.ppo is not None
    assert config.sampling is not None
    assert models.helpful is not None
    resuming = resume and any(checkpoints(out / CHECKPOINTS))
    value_config = replace(config, model=replace(config.model, head="scalar"))
    model, critic = build(config, here), build(value_config, here)
    parts = {
        "": (model, adamw(model, config.train)),
        "critic_": (critic, adamw(critic, config.train)),
    }
    if not resuming:
        load_weights(model, models.base.read, here)
        load_weights(critic, models.helpful.read, here)
    first = frozen(models.base, config, here)
    judge = Judge.of(models, config, here)
    with open_run(config, data, out, here, parts, resuming=resuming, overwrite=overwrite) as (
        store,
        log,
        progress,
    ):
        loop = Alignment(
            config=config,
            data=data,
            here=here,
            model=model,
            optimizer=parts[""][1],
            store=store,
            log=log,
            progress=progress,
            # An iteration has an objective of its own: `learn`.
            objective=cast(Objective, None),
            measures=cast(Measures, None),
            critic=critic,
            critic_optimizer=parts["critic_"][1],
            first=first,
            judge=judge,
            pieces=Tokenizer(data.tokenizer),
            ppo=config.ppo,
            sampling=config.sampling,
        )
        return Result(progress, loop.run(stop_asked), here.rank == 0)


def check(config: Config, ranks: int) -> None:
    """Raise TrainError for sizes of PPO that do not divide."""
    assert config.ppo is not None
    train, mini_batch = config.train, config.ppo.mini_batch
    if train.compile == "on":
        raise TrainError("train.compile must be off for PPO: the answers that it draws grow.")
    if train.batch_size % mini_batch or mini_batch % (train.micro_batch * ranks):
        raise TrainError(
            f"train.batch_size {train.batch_size} must be a multiple of ppo.mini_batch "
            f"{mini_batch}, and that of train.micro_batch {train.micro_batch} × "
            f"{counted(ranks, 'rank')}."
        )
