"""What do the chat stages learn? The demo's stages on one base model, with three seeds.

A rule stands in for people (llama_train/demo.py): the figures say that the machinery works, not
that the text gets better.
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.answer import Bench
from benchmarks.table import Table, spread
from llama_train import cli, demo
from llama_train.reward import GRADES
from llama_train.stages import CHATS

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
    found = [
        _seed(folder / str(seed), sft, chats, seed, quick) for seed in SEEDS[: 1 if quick else None]
    ]
    return [_table(found)]


def _seed(folder: Path, sft: Path, chats: Path, seed: int, quick: bool) -> dict[str, Any]:
    folder.mkdir()
    pairs, rm, rs, ppo = (folder / name for name in ("pairs.jsonl", "rm", "rs", "ppo"))
    demo.pairs(sft, chats, pairs, count=60 if quick else 1000, seed=seed)
    chat = ("--preset", "chat-demo", f"--train.seed={seed}")
    small = ["--train.steps=1", "--samples=2", "--sampling.tokens=4"] if quick else []
    judged: list[str | Path] = ["--from", sft, "--reward", rm, *chat]
    seconds = {
        "reward": _run(
            "reward", *chat, "--from", sft, "--data", pairs, "--out", rm, *small[:1], *_warm(quick)
        ),
        "rejection": _run(
            "align", "--method=rejection", *judged, "--out", rs, *small, *_warm(quick)
        ),
    }
    judged[1] = rs
    seconds["ppo"] = _run("align", "--method=ppo", *judged, "--out", ppo, *small)
    count = 16 if quick else 256
    asked = demo.questions(chats)[:count]
    last = _evals(rm)[-1]
    before, after = _evals(ppo)[0], _evals(ppo)[-1]
    return {
        "seed": seed,
        "accuracy": last["accuracy"],
        "pairs": last["tokens"],
        "by_grade": {g: math.nan if last[g] is None else last[g] for g in GRADES},
        "worth": {
            name: [demo.worth(a) for a in demo.answers(run, asked, tokens=32, key=f"{seed}/bench")]
            for name, run in (("sft", sft), ("rejection", rs), ("ppo", ppo))
        },
        "reward": [before["reward"], after["reward"]],
        "reward_error": [before["reward_error"], after["reward_error"]],
        "kl": after["kl"],
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


def _table(found: list[dict[str, Any]]) -> Table:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def row(what: str, form: str, values: list[float]) -> list[str]:
        shown = [form.format(value) for value in values]
        return [what, *shown, spread(values, form)]

    rows = [row("reward model's accuracy", "{:.3f}", [one["accuracy"] for one in found])]
    rows += [
        row(f"of pairs graded {grade}", "{:.2f}", [o["by_grade"][grade] for o in found])
        for grade in reversed(GRADES)
    ]
    rows += [
        row(f"worth by the rule, {name}", "{:.2f}", [mean(one["worth"][name]) for one in found])
        for name in ("sft", "rejection", "ppo")
    ]
    rows += [
        row("reward of held-out prompts before PPO", "{:.2f}", [o["reward"][0] for o in found]),
        row("after PPO", "{:.2f}", [one["reward"][1] for one in found]),
        row("KL to the policy before PPO, nats an answer", "{:.1f}", [one["kl"] for one in found]),
    ]
    rows += [
        row(f"CPU seconds of {stage}", "{:.0f}", [one["seconds"][stage] for one in found])
        for stage in found[0]["seconds"]
    ]
    rejection = CHATS["chat-demo"].rejection
    assert rejection.sampling is not None
    return Table(
        title="The demo's chat stages",
        how="One pretrained and fine-tuned model; pairs, reward model, rejection sampling (best "
        f"of {rejection.sampling.samples}) and {CHATS['chat-demo'].ppo.iterations} iterations of "
        f"PPO with each seed. {found[0]['pairs']} held-out pairs. A rule stands in for people: "
        "what rises is what the rule likes.",
        columns=["", *(f"seed {one['seed']}" for one in found), "median (range)"],
        rows=rows,
        raw=found,
    )
