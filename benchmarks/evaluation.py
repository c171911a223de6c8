"""How fast does llama_train answer benchmark questions, beside lm-eval's own model?"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.answer import Bench
from benchmarks.table import Table, spread

_QUESTIONS, _QUICK_QUESTIONS = 100, 4
_ROUNDS, _QUICK_ROUNDS = 5, 1
_CHOICES = 4
_DOCUMENTS = 40  # that the tokenizer is trained on
_BATCH = 16  # of lm-eval's model; the other takes as many as its tokens allow
_US, _THEM = "llama_train", "lm-eval's hf"


def ask(bench: Bench) -> list[Table]:
    """Seconds of a set of questions, in turn; and by how much the log-likelihoods differ."""
    ours, theirs = _models(bench.folder)
    requests = list(_requests(_QUICK_QUESTIONS if bench.quick else _QUESTIONS))
    took_s: dict[str, list[float]] = {_US: [], _THEM: []}
    differences = []
    for turn in range(_QUICK_ROUNDS if bench.quick else _ROUNDS):
        pairs = [(_US, ours), (_THEM, theirs)]
        answers = {}
        for name, model in pairs if turn % 2 == 0 else reversed(pairs):
            began_s = time.perf_counter()
            answers[name] = model.loglikelihood(requests, disable_tqdm=True)
            took_s[name].append(time.perf_counter() - began_s)
        both = zip(answers[_US], answers[_THEM], strict=True)
        differences.append(max(abs(mine[0] - other[0]) for mine, other in both))
    ratios = [other / mine for mine, other in zip(took_s[_US], took_s[_THEM], strict=True)]
    return [
        Table(
            title="Log-likelihoods of answers",
            how=f"{len(requests) // _CHOICES} questions of 5 to 60 words with {_CHOICES} answers, "
            f"the demo's shape with random weights, fp32, in one process, in turn; batches of "
            f"{_BATCH} for lm-eval's model. The log-likelihoods differ by "
            f"{max(differences):.1e} nats at most.",
            columns=["", "s", "× lm-eval's own"],
            rows=[
                [_US, spread(took_s[_US]), spread(ratios, "{:.2f}")],
                [_THEM, spread(took_s[_THEM]), "1"],
            ],
            raw={
                "took_s": took_s,
                "times_faster": ratios,
                "median": statistics.median(ratios),
                "most_nats": max(differences),
            },
        )
    ]


def _models(folder: Path) -> tuple[Any, Any]:
    """Ours, and lm-eval's on our export of it."""
    import torch
    from lm_eval.models.huggingface import HFLM

    from llama_train.evaluate import prepare_harness
    from llama_train.export import export
    from llama_train.harness import Llama
    from llama_train.model import Transformer, initial_weight
    from llama_train.prepare import pydoc_documents
    from llama_train.presets import preset
    from llama_train.tokenizer import train_tokenizer

    prepare_harness()
    shape = preset("demo").model
    texts = islice(pydoc_documents(), _DOCUMENTS)
    pieces = train_tokenizer(texts, folder / "tokenizer.model", shape.vocab_size)
    model = Transformer(shape)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(initial_weight(name, weight.shape, shape, 0, weight.device))
    export(model, folder / "export", pieces)
    theirs = HFLM(
        pretrained=str(folder / "export"), device="cpu", dtype="float32", batch_size=_BATCH
    )
    return Llama(model, pieces), theirs


def _requests(questions: int) -> Iterator[Any]:
    from lm_eval.api.instance import Instance

    draw = random.Random(0)
    words = ["module", "class", "the", "value", "of", "file", "read", "string", "list", "error"]

    def text(least: int, most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(least, most)))

    for _ in range(questions):
        prompt = f"Question: {text(5, 60)}?\nAnswer:"
        choices: Sequence[str] = [f" {text(1, 8)}" for _ in range(_CHOICES)]
        for number, choice in enumerate(choices):
            yield Instance("loglikelihood", {}, (prompt, choice), number)
