"""What do the chat stages learn? The demo's stages on one base model, with three seeds.

A rule stands in for people (llama_train/demo.py): the figures say that the machinery works, not
that the text gets better. The reward models are judged on pairs of questions that no stage has
seen, the same for all: of those that the demo itself holds out, some fifteen are significantly
better, and the standard error of a share of them is a tenth.
"""

from __future__ import annotations

import io
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from llama_train import cli, demo
from llama_train.chat import conversation
from llama_train.judge import scores_of
from llama_train.reward import GRADES
from llama_train.stages import CHATS
from llama_train.tokenizer import tokenizer_beside
from llama_train.weights import load_pretrained

SEEDS = (0, 1, 2)


def ask(bench: Bench) -> list[Table]:
    """Pretrain and fine-tune once; the other stages with each seed."""
    folder, quick = bench.folder, bench.quick
    data, base, sft = folder / "data", folder / "base", folder / "sft"
    chats = folder / "chats.jsonl"
    few = ["--train.steps=2"] if quick else []
    _run("prepare", "--corpus", "pydoc", "--out", data)
    tiny = ["--model.dim=32", "--model.n_layers=1", "--train.eval_sequences=4"] if quick else []
    _run("train", "--data", data, "--out", base, *few, *tiny, *_warm(quick))
    demo.chats(chats, count=60 if quick else 400)
    chat = ("--preset", "chat-demo")
    _run("finetune", *chat, "--from", base, "--data", chats, "--out", sft, *few, *_warm(quick))
    unseen = _unseen_pairs(sft, chats, folder, 16 if quick else 800)
    found = [
        _seed(folder / str(seed), sft, chats, unseen, seed, quick)
        for seed in SEEDS[: 1 if quick else None]
    ]
    return [_table(found)]


def _unseen_pairs(sft: Path, chats: Path, folder: Path, count: int) -> Path:
    """Pairs of answers to questions that are not of the conversations."""
    others, pairs = folder / "others.jsonl", folder / "unseen.jsonl"
    demo.chats(others, count=10**6)
    asked = set(demo.questions(chats))
    lines = zip(others.read_text().splitlines(), demo.questions(others), strict=True)
    others.write_text("".join(f"{line}\n" for line, question in lines if question not in asked))
    demo.pairs(sft, others, pairs, count=count, seed=-1)
    return pairs


def _is_right(rm: Path, pairs: Path) -> dict[str, list[bool]]:
    """Whether the reward model scores the chosen answer higher, of each pair by grade."""
    model = load_pretrained(rm, head="scalar")
    pieces = tokenizer_beside(rm, model.shape.vocab_size)
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    dialogues = [
        [token for token, _ in conversation([*row["messages"], answer], pieces)]
        for side in ("chosen", "rejected")
        for row in rows
        for answer in [{"role": "assistant", "content": row[side]}]
    ]
    chosen, rejected = scores_of(model, dialogues, eos=pieces.eos, micro_batch=64).chunk(2)
    found: dict[str, list[bool]] = {grade: [] for grade in GRADES}
    for row, is_right in zip(rows, (chosen > rejected).tolist(), strict=True):
        found[row["preference"]].append(is_right)
    return found


def _seed(
    folder: Path, sft: Path, chats: Path, unseen: Path, seed: int, quick: bool
) -> dict[str, Any]:
    folder.mkdir()
    pairs, rm, rs, ppo = (folder / name for name in ("pairs.jsonl", "rm", "rs", "ppo"))
    demo.pairs(sft, chats, pairs, count=60 if quick else 1000, seed=seed)
    chat = ("--preset", "chat-demo", f"--train.seed={seed}")
    one_step = ["--train.steps=1"] if quick else []
    short = [*one_step, "--sampling.tokens=4"] if quick else []
    few = ["--samples=2"] if quick else []
    judged: list[str | Path] = ["--from", sft, "--reward", rm, *chat]
    seconds = {
        "reward": _run(
            "reward", *chat, "--from", sft, "--data", pairs, "--out", rm, *one_step, *_warm(quick)
        ),
        "rejection": _run(
            "align", "--method=rejection", *judged, "--out", rs, *short, *few, *_warm(quick)
        ),
    }
    judged[1] = rs
    seconds["ppo"] = _run("align", "--method=ppo", *judged, "--out", ppo, *short)
    count = 16 if quick else 256
    asked = demo.questions(unseen)[:count]
    right = _is_right(rm, unseen)
    before, after = _evals(ppo)[0], _evals(ppo)[-1]
    return {
        "seed": seed,
        "accuracy": _mean([one for grade in right.values() for one in grade]),
        "by_grade": {grade: _mean(each) for grade, each in right.items()},
        "pairs": {grade: len(each) for grade, each in right.items()},
        "worth": {
            name: [demo.worth(a) for a in demo.answers(run, asked, tokens=32, key=f"{seed}/bench")]
            for name, run in (("sft", sft), ("rejection", rs), ("ppo", ppo))
        },
        "reward": [before["reward"], after["reward"]],
        "reward_error": [before["reward_error"], after["reward_error"]],
        "kl": after["kl"],
        "kl_error": after["kl_error"],
        "seconds": seconds,
    }


def _warm(quick: bool) -> list[str]:
    return ["--train.warmup_steps=1"] if quick else []


def _run(*words: str | Path) -> float:
    """Run a command of llama_train in this process; CPU seconds of its threads.

    Others may use the machine: what passes meanwhile says little.
    """
    began_s = time.process_time()
    before, sys.argv = sys.argv, ["llama_train", *map(str, words)]
    try:
        with redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{sys.argv}: exit code {end.code}") from end
    finally:
        sys.argv = before
    return time.process_time() - began_s


def _evals(run: Path) -> list[Mapping[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line.get("event") == "eval" and "step" in line]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _error(values: Sequence[float]) -> float:
    """The standard error of their mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _share_error(share: float, count: int) -> float:
    """The standard error of a share of so many."""
    return math.sqrt(share * (1 - share) / count) if count else math.nan


def _table(found: list[dict[str, Any]]) -> Table:
    def row(what: str, form: str, values: list[float], errors: list[float]) -> list[str]:
        """`errors`: the standard errors, or none."""
        shown = [form.format(value) for value in values]
        if errors:
            both = zip(shown, errors, strict=True)
            shown = [f"{one} ± {form.format(error)}" for one, error in both]
        return [what, *shown, spread(values, form)]

    def accuracy(what: str, shares: list[float], *grades: str) -> list[str]:
        counts = [sum(one["pairs"][grade] for grade in grades) for one in found]
        errors = list(map(_share_error, shares, counts))
        return row(f"{what} ({counts[0]})", "{:.3f}", shares, errors)

    rows = [accuracy("reward model's accuracy", [one["accuracy"] for one in found], *GRADES)]
    for grade in reversed(GRADES):
        shares = [one["by_grade"][grade] for one in found]
        rows.append(accuracy(f"of pairs graded {grade}", shares, grade))
    for name in ("sft", "rejection", "ppo"):
        worths = [one["worth"][name] for one in found]
        means, errors = list(map(_mean, worths)), list(map(_error, worths))
        rows.append(row(f"worth by the rule, {name}", "{:.2f}", means, errors))
    for at, what in enumerate(("reward of held-out prompts before PPO", "after PPO")):
        errors = [one["reward_error"][at] for one in found]
        rows.append(row(what, "{:.2f}", [one["reward"][at] for one in found], errors))
    errors = [one["kl_error"] for one in found]
    kl = "KL to the policy before PPO, nats an answer"
    rows.append(row(kl, "{:.1f}", [one["kl"] for one in found], errors))
    rows += [
        row(f"CPU seconds of {stage}", "{:.0f}", [one["seconds"][stage] for one in found], [])
        for stage in found[0]["seconds"]
    ]
    rejection = CHATS["chat-demo"].rejection
    assert rejection.sampling is not None
    return Table(
        title="The demo's chat stages",
        how="One pretrained and fine-tuned model; pairs, reward model, rejection sampling (best "
        f"of {rejection.sampling.samples}) and {CHATS['chat-demo'].ppo.iterations} iterations of "
        "PPO with each seed; ± standard errors. Accuracy is of pairs of answers to questions that "
        "no stage has seen, the same for all seeds (their number in brackets); in one of twenty "
        "the choice is turned round, so that 0.95 is the most. A rule stands in for people: what "
        "rises is what the rule likes.",
        columns=["", *(f"seed {one['seed']}" for one in found), "median (range)"],
        rows=rows,
        raw=found,
    )
