"""Benchmarks: our Transformer answers lm-eval as its own model does on our export; bad input."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from llama_train.config import ModelShape
from llama_train.errors import TrainError
from llama_train.export import export
from llama_train.model import Transformer
from llama_train.programs import passes
from llama_train.tokenizer import Tokenizer, tokenizer_beside, train_tokenizer
from llama_train.weights import open_pretrained
from tests.fixtures.wrap import PATIENCE_S, wait_until

from .conftest import TINY_RUN, train_here
from .test_cli import call
from .test_model import initialised

pytest.importorskip("lm_eval", reason="evaluate needs the extra 'eval'")
pytestmark = pytest.mark.filterwarnings("ignore")  # of what lm-eval imports

SHAPE = ModelShape(dim=32, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=512, context=48)
BYTES = slice(3, 259)  # of the tokenizer's ids
WORDS = ["list", "dict", "read", "write", "path", "file", "string", "number", "error", "module"]


def questions(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Some are longer than the context of 48 tokens, and some choices are prefixes of others."""
    draw = random.Random(seed)
    for number in range(count):
        words = draw.choices(WORDS, k=40 if number % 6 == 0 else draw.randint(2, 9))
        first = draw.choice(WORDS)
        choices = [
            first,
            f"{first} {draw.choice(WORDS)}",
            " ".join(draw.choices(WORDS, k=3)),
            "é 漢",
        ]
        yield {"question": " ".join(words) + "?", "choices": choices, "answer": draw.randrange(4)}


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def pieces(pydoc_data: Path) -> Tokenizer:
    return Tokenizer(pydoc_data / "tokenizer.model")


@pytest.fixture(scope="module")
def model() -> Transformer:
    """With weights large enough that answers differ by nats. Single bytes it never writes: of those
    that are no UTF-8, lm-eval's own decoder drops more.
    """
    made = initialised(SHAPE)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if not name.endswith("norm.weight"):
                weight.mul_(3)
        made.output.weight[BYTES].zero_()
    return made


@pytest.fixture(scope="module")
def ours(model: Transformer, pieces: Tokenizer) -> Any:
    from llama_train.harness import Llama

    return Llama(model, pieces)


@pytest.fixture(scope="module")
def theirs(model: Transformer, pieces: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """lm-eval's own model on our export."""
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("export") / "model"
    export(model, folder, pieces)
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)


def asked(model: Any, kind: str, arguments: list[tuple[Any, ...]]) -> Any:
    from lm_eval.api.instance import Instance

    return getattr(model, kind)(
        [Instance(request_type=kind, doc={}, arguments=pair, idx=0) for pair in arguments]
    )


def test_log_likelihoods_are_those_of_lm_evals_own_model(ours: Any, theirs: Any) -> None:
    pairs = [
        (f"Question: {row['question']}\nAnswer:", f" {choice}")
        for row in questions(30)
        for choice in row["choices"]
    ]
    # (Not two cuts of one text: of those, lm-eval's cache scores the shorter by wrong places.)
    pairs += [("", "the list"), ("a ", "list"), ("x", " "), ("  two", "  spaces")]
    cut = ours.cut
    mine, other = (asked(one, "loglikelihood", pairs) for one in (ours, theirs))
    assert ours.cut > cut, "none of them is longer than the context"
    assert [nats for nats, _ in mine] == pytest.approx([nats for nats, _ in other], abs=1e-4)
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in other]
    assert len({round(nats, 1) for nats, _ in mine}) > 20, "they hardly differ"


def test_whole_texts_have_their_log_likelihoods(ours: Any, theirs: Any) -> None:
    texts = [(" ".join(row["question"] for row in questions(8)),), ("short",)]
    mine, other = (asked(one, "loglikelihood_rolling", texts) for one in (ours, theirs))
    assert mine == pytest.approx(other, abs=1e-3)  # of several windows


def test_continuations_are_those_of_lm_evals_own_model(ours: Any, theirs: Any) -> None:
    settings = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False}
    prompts = [(row["question"], settings) for row in questions(30)]
    mine, other = (asked(one, "generate_until", prompts) for one in (ours, theirs))
    assert [one.strip() for one in mine] == [one.strip() for one in other]
    assert len(set(mine)) > 10, "they hardly differ"


def test_an_answer_that_is_longer_than_the_context_counts_with_its_last_tokens(
    ours: Any, pieces: Tokenizer, model: Transformer
) -> None:
    answer = " ".join(WORDS * 6)
    ((nats, _),) = asked(ours, "loglikelihood", [("Q:", f" {answer}")])
    window = [pieces.bos, *pieces.encode(f"Q: {answer}")][-SHAPE.context - 1 :]
    with torch.no_grad():
        logits = model(torch.tensor([window[:-1]]))[0].log_softmax(-1)
    expected = sum(float(row[token]) for row, token in zip(logits, window[1:], strict=True))
    assert nats == pytest.approx(expected, abs=1e-3)


def test_a_set_has_the_same_accuracies_for_both(ours: Any, theirs: Any, tmp_path: Path) -> None:
    from llama_train.evaluate import ask, open_tasks

    made = write_jsonl(tmp_path / "made.jsonl", list(questions(40, seed=1)))
    mine, other = (
        ask(one, open_tasks([f"local:{made}"], shots=None, unsafe=False), limit=None)
        for one in (ours, theirs)
    )
    assert mine == other
    assert [score.metric for score in mine] == ["acc", "acc_norm"]
    (acc, _) = mine
    assert (acc.task, acc.chance, acc.questions) == ("made", 0.25, 40)
    # The sample's standard error of a share.
    assert acc.stderr == pytest.approx((acc.score * (1 - acc.score) / 39) ** 0.5)


class Knowing:
    """A model of lm-eval that finds likely what it is given, to see what tasks ask and count."""

    def __init__(self, likes: str = "", writes: str = "") -> None:
        self.likes, self.writes = likes, writes
        self.rank, self.world_size = 0, 1
        self.prompts: list[str] = []

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.prompts += [request.args[0] for request in requests]
        return [(float(self.likes in request.args[1]), True) for request in requests]

    def generate_until(self, requests: list[Any]) -> list[str]:
        self.prompts += [request.args[0] for request in requests]
        return [self.writes for _ in requests]


def scores(model: Any, *names: str, shots: int | None = None, limit: int | None = None) -> Any:
    from llama_train.evaluate import ask, open_tasks

    found = ask(model, open_tasks(names, shots=shots, unsafe=True), limit=limit)
    return {(one.task, one.metric): one.score for one in found}


def big_bench(folder: Path, **task: Any) -> str:
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps(task))
    return f"bigbench:{folder}"


def test_big_benchs_choices_are_asked_as_it_asks_them(tmp_path: Path) -> None:
    examples = [
        {"input": "Sky?", "target_scores": {"blue": 1, "red": 0}},
        {"input": "Sea?", "target_scores": {"green": 1, "blue": 1, "red": 0}},
        {"input": "Blood?", "target_scores": {"blue": 0, "red": 1}},
    ]
    task = big_bench(tmp_path / "colours", task_prefix="Colours.\n", examples=examples)
    model = Knowing(likes="blue")
    assert scores(model, task)["colours", "acc"] == pytest.approx(2 / 3)
    listed = ["\n  choice: blue\n  choice: red", "\n  choice: red\n  choice: blue"]
    assert model.prompts[0] in [f"Colours.\n\nQ: Sky?{shown}\nA: " for shown in listed]
    again = Knowing()
    scores(again, task)
    assert again.prompts == model.prompts  # drawn, and always the same


def test_big_benchs_choices_are_not_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    """There the right one often comes first."""
    scored = {"right": 1, "wrong": 0, "worse": 0, "worst": 0}
    examples = [{"input": f"{number}?", "target_scores": scored} for number in range(40)]
    model = Knowing()
    scores(model, big_bench(tmp_path / "first", examples=examples, choice_prefix="\n* "))
    places = [
        prompt.split("\n* ").index("right") for prompt in model.prompts if "right\n*" in prompt
    ]
    assert set(places) >= {1, 2, 3}


def test_big_benchs_choices_count_what_they_are_worth(tmp_path: Path) -> None:
    from llama_train.evaluate import ask, open_tasks

    examples = [
        {"input": "Sky?", "target_scores": {"blue": 1, "red": 0}},
        {"input": "Sea?", "target_scores": {"green": 0.7, "blue": 0.25, "red": 0.05}},
        {"input": "Blood?", "target_scores": {"blue": 0, "red": 1}},
    ]
    task = big_bench(tmp_path / "worth", examples=examples)
    (found,) = ask(Knowing(likes="blue"), open_tasks([task], shots=None, unsafe=False), limit=None)
    assert (found.metric, found.score) == ("multiple_choice_grade", pytest.approx(1.25 / 3))
    assert found.chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert found.stderr is not None


def test_big_benchs_prefix_stands_once_and_its_separator_between(tmp_path: Path) -> None:
    examples = [{"input": f"{n}+1", "target": str(n + 1)} for n in range(3)]
    settings = {"task_prefix": "Sums.", "few_shot_example_separator": "\n--"}
    model = Knowing()
    scores(model, big_bench(tmp_path / "sums", examples=examples, **settings), shots=2)
    for prompt in model.prompts:
        assert prompt.startswith("Sums.\nQ: ")
        assert (prompt.count("Sums."), prompt.count("\n--\nQ: ")) == (1, 2)


def test_a_task_that_prefers_free_answers_to_its_choices_gets_them(tmp_path: Path) -> None:
    example = {"input": "e4", "target": "Qe7#.", "target_scores": {"Qe7#.": 1, "Kd2": 0}}
    task = big_bench(
        tmp_path / "mate",
        examples=[example],
        metrics=["multiple_choice_grade", "exact_str_match"],
        preferred_score="exact_str_match",
        stop_string=".",
    )
    found = scores(Knowing(writes="Qe7#."), task)
    assert found == {("mate", "exact_match"): 1.0}


def test_big_benchs_free_answers_must_match(tmp_path: Path) -> None:
    examples = [{"input": "1+1", "target": ["2", "two"]}, {"input": "1+2", "target": "3"}]
    task = big_bench(tmp_path / "sums", examples=examples, output_regex=r"= (\w+)")
    assert scores(Knowing(writes="it = two."), task) == {("sums", "exact_match"): 0.5}
    # No match is no answer; without a pattern an answer is a sentence.
    assert scores(Knowing(writes="two"), task) == {("sums", "exact_match"): 0.0}
    task = big_bench(tmp_path / "sentence", examples=examples)
    assert scores(Knowing(writes="two. Or"), task) == {("sentence", "exact_match"): 0.5}


def test_questions_without_choices_are_answered_freely_and_shown_solved(tmp_path: Path) -> None:
    rows = [{"question": f"{n}+1", "answer": str(n + 1)} for n in range(4)]
    made = write_jsonl(tmp_path / "sums.jsonl", rows)
    model = Knowing(writes=" 3 ")
    assert scores(model, f"local:{made}", shots=3) == {("sums", "exact_match"): 0.25}
    assert all(
        prompt.count(f"Question: {n}+1\n") == 1 for n in range(4) for prompt in model.prompts
    )


PROBLEM = {
    "task_id": "made/0",
    "prompt": 'def one():\n    """Return 1."""\n',
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "one",
}


@pytest.mark.parametrize(("writes", "share"), [("    return 1", 1.0), ("    return 2", 0.0)])
def test_humanevals_answers_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: str, share: float
) -> None:
    patient = partial(passes, timeout_s=PATIENCE_S)
    monkeypatch.setattr("llama_train.questions.passes", patient)
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(PROBLEM).encode()))
    found = scores(Knowing(writes=writes), f"humaneval:{path}")
    assert found == {("humaneval", "pass@1"): share}


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit",
        "import os; os._exit(0)",
        "assert False",
        "1/0",
        "def",
        "x = bytearray(8 * 2**30)",
        "while True: print('x' * 10**6)",
        "import time; time.sleep(60)",
    ],
)
def test_a_program_that_does_not_reach_its_end_does_not_pass(program: str) -> None:
    assert not passes(program, timeout_s=3.0 if "time" in program else 60.0)


def test_a_program_runs_in_a_folder_of_its_own_and_leaves_no_process(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    sleeper = "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
    assert passes(
        "import os\nassert os.listdir() == ['program.py'] and 'HOME' not in os.environ\n"
        f"{sleeper}open({str(mark)!r}, 'w').write(str(child.pid))",
        timeout_s=PATIENCE_S,
    )
    assert wait_until(lambda: _has_ended(mark.read_text()))


def _has_ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def run(pydoc_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    words = ("--train.steps=2", "--train.warmup_steps=1", "--model.vocab_size=512")
    train_here(*TINY_RUN, *words, data=pydoc_data, out=out)
    return out


def test_the_command_prints_scores_and_logs_them(
    run: Path, tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_jsonl(tmp_path / "made.jsonl", list(questions(8)))
    code, out, err = call(capsys, "evaluate", run, f"--tasks=local:{made}", "--limit=5")
    assert code == 0, err
    assert out.splitlines()[1].split()[:2] == ["made", "acc"]
    assert out.splitlines()[1].split()[-2:] == ["0.250", "5"]
    assert "texts cut at the beginning: longer than the context of 32 tokens" in err
    phase, end, acc, _ = map(json.loads, recorded.read_text().splitlines())
    assert (phase["event"], phase["name"]) == ("phase", "evaluation")
    assert (end["event"], end.get("name")) == ("phase", None)
    assert (acc["event"], acc["task"], acc["metric"]) == ("score", "made", "acc")
    assert (acc["step"], acc["questions"], acc["chance"]) == (2, 5, 0.25)
    words = ("evaluate", run, f"--tasks=local:{made}", "--limit=5", "--format=json")
    answer = json.loads(call(capsys, *words)[1])
    assert answer["scores"][0]["score"] == acc["score"]


def test_one_question_is_no_questions(
    run: Path, tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"question": " ".join(WORDS * 4), "answer": "list"}
    made = write_jsonl(tmp_path / "made.jsonl", [row])
    code, _, err = call(capsys, "evaluate", run, f"--tasks=local:{made}")
    assert code == 0, err
    assert "1 text cut at the beginning: longer than the context of 32 tokens" in err
    assert json.loads(recorded.read_text().splitlines()[-1])["message"].endswith(", 1 question")


def test_a_copy_that_is_kept_beside_the_checkpoints_is_not_asked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    newest = copied / "checkpoints" / "step-00000002"
    shutil.copytree(newest, f"{newest}-good")
    made = write_jsonl(tmp_path / "made.jsonl", list(questions(2)))
    words = ("evaluate", copied, f"--tasks=local:{made}", "--format=json")
    code, out, err = call(capsys, *words)
    assert code == 0, err
    assert json.loads(out)["step"] == 2


def test_what_a_task_needs_of_the_network_is_said_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    code, _, err = call(capsys, "evaluate", run, "--tasks=hellaswag")
    assert (code, len(err.splitlines())) == (1, 1), err
    assert "The data set of task hellaswag is neither to be reached nor in" in err


def test_bad_use_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", list(questions(3)))
    big_bench(tmp_path / "big" / "one", examples=[])
    problems = write_jsonl(tmp_path / "HumanEval.jsonl", [PROBLEM])
    for words, message in (
        ([f"--tasks=local:{good}", "--limit=0"], "--limit is 0; it must be above 0"),
        ([f"--tasks=local:{good}", "--shots=-1"], "--shots is -1; it must be 0 or more"),
        ([f"--tasks=local:{good}", "--shots=3"], "has 3 questions that can be shown solved"),
        (["--tasks=,"], "--tasks names no task"),
        (["--tasks=helaswag"], "no task helaswag in lm-eval; did you mean hellaswag?"),
        ([f"--tasks=file:{good}"], "file is none of bigbench, local, humaneval"),
        ([f"--tasks=local:{good},local:{good}"], "Two tasks are named good"),
        ([f"--tasks=local:{tmp_path}/none.jsonl"], "none.jsonl cannot be read: No such file"),
        ([f"--tasks=bigbench:{tmp_path}/big"], "big holds no task.json, BIG-bench's task; it ho"),
        ([f"--tasks=bigbench:{tmp_path}/big/onn"], "did you mean one?"),
        ([f"--tasks=bigbench:{tmp_path}/big/one"], "task.json has no list of 'examples'"),
        ([f"--tasks=humaneval:{problems}"], "runs programs that the model writes. Add --unsafe"),
    ):
        code, out, err = call(capsys, "evaluate", run, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert message in err


def test_a_checkpoint_of_another_tokenizer_is_refused(
    run: Path, model: Transformer, pieces: Tokenizer, tmp_path: Path
) -> None:
    from llama_train.evaluate import tokenizer_of

    assert tokenizer_of(run, 512).sha256 == pieces.sha256
    for vocab_size in (511, 600):
        with pytest.raises(TrainError, match=f"512 pieces, the model vocab_size {vocab_size}"):
            tokenizer_of(run, vocab_size)
    assert tokenizer_of(run, 520).vocab_size == 512  # padded
    export(model, tmp_path / "out", pieces)
    config = tmp_path / "out" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "bos_token_id": 7}))
    with pytest.raises(TrainError, match=r"has bos_token_id 1, the model .*bos_token_id 7"):
        tokenizer_of(tmp_path / "out", 512)
    with pytest.raises(TrainError, match="does not exist"):
        tokenizer_of(tmp_path, 512)
    assert (open_pretrained(run).step, open_pretrained(tmp_path / "out").step) == (2, None)


def test_a_tokenizer_of_the_same_size_but_another_is_refused(
    run: Path, model: Transformer, pieces: Tokenizer, tmp_path: Path, capsys: Any
) -> None:
    """Swapped under a run and under an export; one without the hash has nothing to compare."""
    draw = random.Random(0)
    text = ["".join(draw.choices("abcdefghijklmnop", k=5)) for _ in range(2000)]
    other = train_tokenizer(text, tmp_path / "other.model", pieces.vocab_size)
    assert (other.vocab_size, other.bos, other.eos) == (512, pieces.bos, pieces.eos)
    exported, copied = tmp_path / "out", tmp_path / "run"
    export(model, exported, pieces)
    shutil.copytree(run, copied)
    made, out = write_jsonl(tmp_path / "made.jsonl", list(questions(2))), tmp_path / "new"
    for folder in (copied, exported):
        assert tokenizer_beside(folder, 512).sha256 == pieces.sha256
        shutil.copy(tmp_path / "other.model", folder / "tokenizer.model")
        with pytest.raises(TrainError, match=f"{folder}: a checkpoint of another tokenizer"):
            tokenizer_beside(folder, 512)
    begins = ("--from", copied, "--data", made, "--out", out)
    for words in (
        ("evaluate", copied, f"--tasks=local:{made}"),
        ("generate", copied),
        ("export", copied, "--out", out),
        ("finetune", *begins),
        ("reward", *begins),
        ("align", "--method", "ppo", "--reward", copied, *begins),
    ):
        code, _, err = call(capsys, *words)
        assert (code, len(err.splitlines())) == (2, 1), (words, err)
        assert f"{copied}: a checkpoint of another tokenizer" in err
        assert not out.exists()
    for folder in (copied, exported):
        config = folder / "config.json"
        content = json.loads(config.read_text())
        del content["tokenizer_sha256"]
        config.write_text(json.dumps(content))
        assert tokenizer_beside(folder, 512).sha256 == other.sha256
    (copied / "config.json").write_text("{")
    with pytest.raises(TrainError, match=r"config\.json is not readable JSON"):
        tokenizer_beside(copied, 512)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no question"),
        ("{", "line 2 is no JSON"),
        ("[]", "line 2 is not a JSON object"),
        ('{"question": "a"}', "line 2: 'answer' is missing or no text"),
        ('{"question": "", "answer": "b"}', "line 2: 'question' is missing or no text"),
        ('{"question": "a", "choices": ["x"], "answer": 0}', "needs two choices"),
        ('{"question": "a", "choices": ["x", ""], "answer": 0}', "a choice is missing"),
        ('{"question": "a", "choices": ["x", "y"], "answer": 2}', "neither one of the 2 choices"),
        ('{"question": "a", "choices": ["x", "y"], "answer": true}', "neither one of the 2"),
        ('{"question": "a", "choices": ["x", "y"], "answer": "z"}', "neither one of the 2"),
        (r'{"question": "\ud83d", "answer": "b"}', "half of a surrogate pair"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str, message: str) -> None:
    from llama_train.questions import local

    path = tmp_path / "made.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(TrainError, match=message):
        local(path)
