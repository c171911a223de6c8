"""The chat demo's data and figure: a rule stands in for the people of the Llama 2 report.

What it shows is the machinery, not better text: the rule likes quotation marks and letters in new
company, and the models learn just that. An answer's worth is half of its quotation marks, of which
eight count, and four times the share of its letter triples that are not repeated. Of two answers
the one that is worth more is chosen, by a grade that follows from the difference; one choice in
twenty is turned round, as people err.
"""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from llama_train import host

app = typer.Typer(add_completion=False, help="Data and figure of `make demo-chat`.")

_ERRORS = 0.05
_GRADES_FROM = (0.0, 0.4, 0.8, 1.4)
"""The least difference of worth for each grade."""


def worth(answer: str) -> float:
    """What the rule thinks of an answer: 0 … 8."""
    quotes = sum(answer.count(sign) for sign in "\"'`")
    triples = [answer[at : at + 3] for at in range(len(answer) - 2)]
    fresh = len(set(triples)) / len(triples) if triples else 0.0
    return min(quotes, 8) / 2 + 4 * fresh


def judged(first: str, second: str, draw: random.Random) -> dict[str, str]:
    """The two answers as a pair: which is chosen, and by which grade."""
    from llama_train.reward import GRADES

    difference = worth(first) - worth(second)
    grade = max(at for at, least in enumerate(_GRADES_FROM) if abs(difference) >= least)
    pair = (first, second) if (difference >= 0) is (draw.random() >= _ERRORS) else (second, first)
    return {"chosen": pair[0], "rejected": pair[1], "preference": GRADES[grade]}


def sentences() -> Iterator[str]:
    """Those of Python's own documentation that are neither short nor long."""
    from pydoc_data.topics import topics

    for text in topics.values():
        for paragraph in text.split("\n\n"):
            for sentence in re.split(r"(?<=[.:])\s+", " ".join(paragraph.split())):
                if 60 <= len(sentence) <= 130 and sentence[0].isupper():
                    yield sentence


@app.command()
def chats(out: Path, count: int = 400, seed: int = 0) -> None:
    """Conversations: the first words of a sentence are the question, the others its answer."""
    found = sorted(set(sentences()))
    random.Random(seed).shuffle(found)
    # An underlined title is all question.
    answered = [sentence for sentence in found if len(sentence.split()) > 4]
    with out.open("w", encoding="utf-8") as file:
        for sentence in answered[:count]:
            words = sentence.split()
            question, answer = " ".join(words[:4]), " ".join(words[4:])
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")


def answers(folder: Path, questions: Sequence[str], *, tokens: int, key: str) -> list[str]:
    """An answer of the run to each question."""
    from llama_train.chat import prompt
    from llama_train.generate import sample
    from llama_train.tokenizer import tokenizer_beside
    from llama_train.weights import load_pretrained

    model = load_pretrained(folder)
    pieces = tokenizer_beside(folder, model.shape.vocab_size)
    drawn = sample(
        model,
        [[pieces.bos, *pieces.encode(prompt(question))] for question in questions],
        count=tokens,
        temperature=1.0,
        keys=[f"{key}/{number}" for number in range(len(questions))],
        stop=pieces.eos,
    )
    return [pieces.decode(answer).strip() for answer in drawn]


@app.command()
def pairs(
    model: Annotated[Path, typer.Option("--from")],
    data: Annotated[Path, typer.Option("--data")],
    out: Annotated[Path, typer.Option("--out")],
    count: int = 1000,
    tokens: int = 32,
    seed: int = 0,
) -> None:
    """Two answers of the model to each question of the conversations, judged by the rule."""
    asked = questions(data)
    numbers = range(count)
    each = [asked[number % len(asked)] for number in numbers]
    both = answers(model, [*each, *each], tokens=tokens, key=f"{seed}/pairs")
    draw = random.Random(seed)
    with out.open("w", encoding="utf-8") as file:
        for question, first, second in zip(each, both[:count], both[count:], strict=True):
            if first and second and first != second:
                line = {"messages": [{"role": "user", "content": question}], "kind": "helpful"}
                file.write(json.dumps({**line, **judged(first, second, draw)}) + "\n")


def questions(data: Path) -> list[str]:
    lines = data.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines]


@app.command()
def judge(
    runs: list[Path],
    data: Annotated[Path, typer.Option("--data")],
    count: int = 200,
    tokens: int = 32,
    seed: int = 1,
) -> None:
    """Print the mean worth of each run's answers, by the rule itself, and one of them."""
    asked = questions(data)[:count]
    print(f"{'model':<8} {'worth, of 8':<13} an answer to {asked[0]!r}")
    for folder in runs:
        drawn = answers(folder, asked, tokens=tokens, key=f"{seed}/judge")
        found = [worth(answer) for answer in drawn]
        error = statistics.stdev(found) / len(found) ** 0.5
        print(f"{folder.name:<8} {statistics.fmean(found):.2f} ± {error:.2f}   {drawn[0]!r}")


@app.command()
def plot(
    sampled: Annotated[Path, typer.Option("--rejection", help="The run of rejection sampling.")],
    aligned: Annotated[Path, typer.Option("--ppo", help="The run of PPO.")],
    tag: Annotated[str, typer.Option(help="KEY=VALUE of the recorded runs.")],
    out: Annotated[Path, typer.Option("--out")],
) -> None:
    """Draw reward, divergence and energy of the stages."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    from carbontrack import Ledger

    key, _, value = tag.partition("=")
    recorded = Ledger().runs(tags={key: value})
    whole = recorded[recorded["status"] == "completed"]
    newest = whole.drop_duplicates("name").sort_values("started").dropna(subset="energy_kwh")
    energy = newest.set_index("name")["energy_kwh"] * 1000
    quality = ", ".join(sorted(set(newest["quality"])))
    lines = _lines(aligned)
    steps = [line for line in lines if "kl" in line and "lr" in line]
    held_out = [line for line in lines if line.get("event") == "eval"]
    (best,) = (line for line in _lines(sampled) if "best" in line)

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    for name in ("best", "median"):
        points = {int(n): reward for n, reward in best[name].items()}
        axes[0].plot(list(points), list(points.values()), marker="o", label=name)
    axes[0].set(title="Rejection sampling", xlabel="answers", ylabel="reward", xscale="log")
    axes[0].set_xticks(list(points), [str(n) for n in points])
    axes[0].minorticks_off()
    axes[0].legend(frameon=False)
    axes[1].plot([s["step"] for s in steps], [s["reward"] for s in steps], label="drawn")
    axes[1].errorbar(
        [e["step"] for e in held_out],
        [e["reward"] for e in held_out],
        [2 * e["reward_error"] for e in held_out],
        fmt="o",
        label="held-out, ± 2 s.e.",
    )
    axes[1].set(title="PPO: reward", xlabel="iteration", ylabel="reward")
    axes[1].legend(frameon=False, loc="lower right")
    axes[2].plot([s["step"] for s in steps], [s["kl"] for s in steps])
    axes[2].set(
        title="PPO: divergence", xlabel="iteration", ylabel="KL, nats an answer", ylim=(0, None)
    )
    for axis in axes[1:3]:
        axis.xaxis.get_major_locator().set_params(integer=True)  # there is no half iteration
    names = [str(name) for name in energy.index]
    axes[3].barh(names[::-1], energy.to_list()[::-1])
    axes[3].set(title=f"Energy ({quality})", xlabel="Wh")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=120)
    print(out)


def _lines(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    host.set_thread_waiting()  # before torch is loaded
    app()
