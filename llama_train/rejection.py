"""Rejection sampling: of several answers to each prompt the best, from which the model learns.

Section 3.2.3 of the Llama 2 report. The answers are kept in `answers.jsonl` of the run, as
conversations for fine-tuning. What is drawn for a prompt follows from the seed and its number, so
a drawing that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist

from llama_train.chat import KINDS, ChatData, json_lines, kind_of, question, waits
from llama_train.checkpoint import newest
from llama_train.config import Config
from llama_train.documents import is_held_out
from llama_train.errors import TrainError
from llama_train.generate import sample
from llama_train.metrics import RunLog
from llama_train.model import Transformer
from llama_train.reward import Judge
from llama_train.tokenizer import Tokenizer
from llama_train.train import ANSWERS, DRAWN, Preempted, Result, fit, remove_run
from llama_train.vocabulary import EventKind, Phase
from llama_train.weights import Pretrained, open_pretrained
from llama_train.world import World, build, load_weights

PROMPTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an answer."""

    tokens: list[int]
    """What the answer is drawn after."""
    kind: str
    line: Mapping[str, Any]
    """What is learnt with the answer: the messages, and what else the line says of them."""


def read_prompts(
    files: Sequence[Path], pieces: Tokenizer, longest: int
) -> tuple[list[Prompt], int]:
    """The prompts of at most `longest` tokens, each once, and how many are longer.

    Raises TrainError for a line that is not a prompt, or if none fits.
    """
    found: dict[str, Prompt] = {}
    for path in files:
        for _, prompt in json_lines(path, "a prompt", partial(_prompt, pieces=pieces)):
            found.setdefault(json.dumps(prompt.line), prompt)
    fitting = [prompt for prompt in found.values() if len(prompt.tokens) <= longest]
    if not fitting:
        raise TrainError(
            f"{files[0]} holds no prompt of at most {longest} tokens, which is what the context "
            f"leaves beside an answer; {len(found)} are longer.",
            hint="Lower --sampling.tokens, or give other prompts.",
        )
    return fitting, len(found) - len(fitting)


def _prompt(row: Mapping[str, Any], pieces: Tokenizer) -> Prompt:
    tokens = question(row.get("messages"), pieces)
    kind = kind_of(row)
    return Prompt(tokens, kind, {"messages": row["messages"], "kind": kind})


def read_waiting(path: Path, pieces: Tokenizer, longest: int) -> list[Prompt]:
    """The conversations of a file that wait for an answer of the model (see `chat`).

    Raises TrainError for one that is not a conversation, or is longer than `longest` tokens.
    """
    parse = partial(_waiting, pieces=pieces, longest=longest)
    return [prompt for _, prompt in json_lines(path, "a conversation", parse) if prompt]


def _waiting(row: Mapping[str, Any], pieces: Tokenizer, longest: int) -> Prompt | None:
    if not waits(row):
        return None
    messages, ghost = row["messages"], row.get("ghost_attention") is True
    if (preprompt := row.get("preprompt")) is not None:
        if not isinstance(preprompt, str) or not preprompt.strip():
            raise ValueError("'preprompt' is empty")
        if messages[0].get("role") == "system":
            raise ValueError("with a 'preprompt' there can be no system message")
        messages = [{"role": "system", "content": preprompt}, *messages]
    elif messages[0].get("role") != "system":
        raise ValueError("'ghost_attention' needs a system message")
    tokens = question(messages, pieces, every=ghost)
    if len(tokens) > longest:
        raise ValueError(f"its {len(tokens)} tokens leave no room for an answer in the context")
    line = {"messages": row["messages"], "ghost_attention": ghost}
    return Prompt(tokens, KINDS[0], line)


def split(prompts: Sequence[Prompt], share: float) -> tuple[list[Prompt], list[Prompt]]:
    """(to train on, held out). Raises TrainError if one of them is empty."""
    sides: tuple[list[Prompt], list[Prompt]] = [], []
    for prompt in prompts:
        sides[is_held_out(json.dumps(prompt.line["messages"]), share)].append(prompt)
    if not sides[0] or not sides[1]:
        raise TrainError(
            f"There are {len(sides[0])} prompts to train on and {len(sides[1])} held out.",
            hint="Give more prompts, or another --held-out.",
        )
    return sides


def open_judge(folder: Path, base: Path, shape: Pretrained) -> Pretrained:
    """A reward model for the answers of `base`; raises TrainError if it is of another kind."""
    found = open_pretrained(folder, head="scalar")
    if (folder / "tokenizer.model").read_bytes() != (base / "tokenizer.model").read_bytes():
        raise TrainError(f"{folder} is a reward model of another tokenizer than {base}'s.")
    theirs, ours = found.shape.architecture, shape.shape.architecture
    differences = [
        f"{name} {theirs[name]} instead of {ours[name]}"
        for name in ours
        if name != "head" and theirs[name] != ours[name]
    ]
    if differences:
        raise TrainError(
            f"{folder} is a reward model of another trunk than {base}: {', '.join(differences)}."
        )
    return found


def frozen(pretrained: Pretrained, config: Config, here: World) -> Transformer:
    """A model that is only asked, spread over the ranks as the configuration says."""
    shape = replace(pretrained.shape, context=config.model.context)
    # Answers grow by a token at a time, for which nothing could be compiled once.
    eager = replace(config.train, compile="off")
    model = build(replace(config, model=shape, train=eager), here)
    load_weights(model, pretrained.read, here)
    return model.requires_grad_(False)


def finetune(
    settings: Callable[[int], Config],
    waiting: Sequence[Prompt],
    data: Path,
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    base: Pretrained,
    tokenizer: Path,
    source: str,
    held_out: float,
    resume: bool,
    overwrite: bool,
) -> Result:
    """Draw the answers that conversations wait for from `base`, and fine-tune it on all."""
    config = settings(1)
    pieces, source = Tokenizer(tokenizer), f"{source}/{_digest(waiting)}"
    model = frozen(base, config, here)
    if here.rank == 0 and overwrite and not resume:  # now that all is read
        remove_run(out)
    dist.barrier()
    path = draw(model, None, waiting, pieces, config, out, here, stop_asked, source=source)
    del model
    context, seed = config.model.context, config.train.seed
    chats = ChatData([data, path], tokenizer, context, held_out=held_out, seed=seed)
    return fit(
        settings(chats.sequences), chats, out, here, stop_asked, resume=resume, initial=base.read
    )


def bench(judges: Sequence[Pretrained], config: Config, here: World) -> Judge:
    """The reward models of helpfulness and, if there is one, of safety."""
    assert config.sampling is not None
    models = [frozen(judge, config, here) for judge in judges]
    return Judge(models[0], models[1] if len(models) > 1 else None, config.sampling.threshold)


def align(
    settings: Callable[[int], Config],
    prompts: Sequence[Prompt],
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    base: Pretrained,
    judges: Sequence[Pretrained],
    tokenizer: Path,
    source: str,
    held_out: float,
    resume: bool,
    overwrite: bool,
) -> Result:
    """Draw, choose, and fine-tune `base` on the best answers; fails and stops like any training.

    `settings` gives the configuration for so many sequences of answers.
    """
    config = settings(1)
    pieces, source = Tokenizer(tokenizer), f"{source}/{_digest(prompts)}"
    model, judge = frozen(base, config, here), bench(judges, config, here)
    if here.rank == 0 and overwrite and not resume:  # now that all is read
        remove_run(out)
    dist.barrier()
    path = draw(model, judge, prompts, pieces, config, out, here, stop_asked, source=source)
    del model, judge
    chats = ChatData(
        [path], tokenizer, config.model.context, held_out=held_out, seed=config.train.seed
    )
    return fit(
        settings(chats.sequences), chats, out, here, stop_asked, resume=resume, initial=base.read
    )


def _digest(prompts: Sequence[Prompt]) -> str:
    return hashlib.sha256(str([prompt.tokens for prompt in prompts]).encode()).hexdigest()


def identity(folder: Path) -> str:
    """The manifest of a run's newest checkpoint; the path of a source that is not a run."""
    if (folder / "checkpoints").is_dir():
        return (newest(folder)[0] / "manifest.json").read_text()
    return str(folder.resolve())


def draw(
    model: Transformer,
    judge: Judge | None,
    prompts: Sequence[Prompt],
    pieces: Tokenizer,
    config: Config,
    out: Path,
    here: World,
    stop_asked: Callable[[], bool],
    *,
    source: str,
) -> Path:
    """Write the best answer to each prompt, by the judge, to `answers.jsonl`; returns its path.

    Without a judge it is the first that is not empty. Goes on where an interrupted drawing from
    the same `source` stopped; raises TrainError if the file is of another. Raises Preempted after
    a stop signal, when what was drawn is on disk.
    """
    path, sampling, leads = out / ANSWERS, config.sampling, here.rank == 0
    assert sampling is not None
    header = {"of": source, "seed": config.train.seed, **asdict(sampling)}
    done: list[Any] = [_resume(path, header) if leads else None]
    dist.broadcast_object_list(done)
    if done[0] is None:
        raise TrainError(
            f"{path} was drawn from other models, prompts or settings.", hint="Use --overwrite."
        )
    chunks = range(done[0], len(prompts), PROMPTS_AT_ONCE)
    with RunLog(out, steps=len(prompts), first_step=done[0], writes=leads) as log:
        if chunks:
            log.print(f"{len(prompts):,} prompts, {sampling.samples} answers to each")
        for first in chunks:
            chosen = prompts[first : first + PROMPTS_AT_ONCE]
            stops: list[Any] = [stop_asked()]
            dist.broadcast_object_list(stops)
            if stops[0]:
                log.event(EventKind.PREEMPTED, f"stopped by a signal after {first:,} prompts")
                raise Preempted
            with log.phase(Phase.GENERATE):
                answers = sample(
                    model,
                    [prompt.tokens for prompt in chosen for _ in range(sampling.samples)],
                    count=sampling.tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    keys=[
                        f"{config.train.seed}/rejection/{first + number}/{one}"
                        for number in range(len(chosen))
                        for one in range(sampling.samples)
                    ],
                    stop=pieces.eos,
                    ranks=here.size,
                )
            rewards = [0.0] * len(answers)
            if judge is not None:
                with log.phase(Phase.SCORE):
                    asked = [prompt for prompt in chosen for _ in range(sampling.samples)]
                    rewards = judge.scores(
                        [[*p.tokens, *a] for p, a in zip(asked, answers, strict=True)],
                        [prompt.kind for prompt in asked],
                        eos=pieces.eos,
                        micro_batch=config.train.micro_batch,
                        ranks=here.size,
                    ).tolist()
            if leads:
                lines = list(_best(chosen, first, answers, rewards, pieces))
                with path.open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines))
        if leads and judge is not None and chunks:
            _report(path, sampling.samples, log)
    dist.barrier()
    return path


def _best(
    prompts: Sequence[Prompt],
    first: int,
    answers: Sequence[Sequence[int]],
    rewards: Sequence[float],
    pieces: Tokenizer,
) -> Iterator[dict[str, Any]]:
    """For each prompt a line with its best answer; none, where all answers are empty."""
    samples = len(answers) // len(prompts)
    for number, prompt in enumerate(prompts):
        own = range(number * samples, (number + 1) * samples)
        texts = {at: pieces.decode(answers[at]).strip() for at in own}
        spoken = [at for at in own if texts[at]]
        if spoken:
            best = max(spoken, key=lambda at: rewards[at])
            answer = {"role": "assistant", "content": texts[best]}
            yield {
                **prompt.line,
                "messages": [*prompt.line["messages"], answer],
                "prompt": first + number,
                "rewards": [round(rewards[at], 6) for at in own],
            }


def _resume(path: Path, header: Mapping[str, Any]) -> int | None:
    """The number of the first prompt to draw for; None if the file is of something else.

    The last group of prompts that has a line may not be whole: it is drawn again, as it was.
    """
    note = path.with_name(DRAWN)
    if not note.exists():
        path.unlink(missing_ok=True)
        note.write_text(json.dumps(header))
    elif json.loads(note.read_text()) != header:
        return None
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n") if path.exists() else ("",) * 3
    lines = [line for line in whole.split("\n") if line]
    numbers = [json.loads(line)["prompt"] for line in lines]
    start = numbers[-1] // PROMPTS_AT_ONCE * PROMPTS_AT_ONCE if numbers else 0
    kept = [line for line, number in zip(lines, numbers, strict=True) if number < start]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    return start


def _report(path: Path, samples: int, log: RunLog) -> None:
    """The mean reward of the best of the first 1, 2, 4 … answers, and of the median one."""
    rows = [json.loads(line)["rewards"] for line in path.read_text().splitlines()]
    sizes = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    best = {n: statistics.fmean(max(row[:n]) for row in rows) for n in sizes}
    middle = {n: statistics.fmean(statistics.median(row[:n]) for row in rows) for n in sizes}
    said = ", ".join(f"{value:.2f} ({n})" for n, value in best.items())
    log.event(
        EventKind.EVAL,
        f"reward of the best of N: {said}",
        best={str(n): value for n, value in best.items()},
        median={str(n): value for n, value in middle.items()},
    )
