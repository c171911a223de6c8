"""Fine-tuning on conversations made here: what is predicted, the packing, that it learns."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_train.chat import ChatData, conversation, question
from llama_train.config import ModelShape
from llama_train.errors import TrainError
from llama_train.flops import flops_per_token
from llama_train.generate import sample
from llama_train.judge import scores_of
from llama_train.model import IGNORE
from llama_train.stages import CHATS
from llama_train.tokenizer import Tokenizer
from llama_train.weights import load_pretrained, open_pretrained

from .conftest import TINY_RUN, planned_and_logged, run, train_here
from .test_cli import call


@pytest.fixture
def model(pydoc_data: Path) -> Path:
    return pydoc_data / "tokenizer.model"


def turns(*pairs: tuple[str, str], system: str = "") -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system else []
    for asked, answer in pairs:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answer})
    return messages


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Questions of a few words with one kind of answer, which is easily learnt."""
    path = tmp_path / "chats.jsonl"
    rows = [turns((f"say {i}", f"yes {i}"), (f"not {i}", f"no {i}")) for i in range(100)]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


def test_the_template_is_llama_2s_and_only_answers_are_predicted(model: Path) -> None:
    pieces = Tokenizer(model)
    marked = conversation(turns(("Hi ", "Ho"), ("And?", "Bye"), system="Be brief."), pieces)
    predicted = [token for token, answer in marked if answer]
    given = [token for token, answer in marked if not answer]
    # As Meta's code does it: each turn is encoded in one piece, with a space before EOS.
    assert predicted == [*pieces.encode("Ho "), 2, *pieces.encode("Bye "), 2]
    first = pieces.encode("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]")
    assert given == [1, *first, 1, *pieces.encode("[INST] And? [/INST]")]


def test_conversations_are_packed_whole(chats: Path, model: Path) -> None:
    pieces = Tokenizer(model)
    data = ChatData([chats], model, 128, held_out=0.1)
    seen = []
    for number in range(data.sequences):
        tokens, targets = data.sequence(number)
        assert tokens.shape == targets.shape == (128,)
        chosen = targets != IGNORE
        # A target is the next token, wherever it is one.
        assert np.array_equal(targets[:-1][chosen[:-1]], tokens[1:][chosen[:-1]])
        seen += [word for word in pieces.decode(targets[chosen].tolist()).split() if word.isdigit()]
    for number in range(data.held_out_sequences):
        targets = data.held_out(number)[1]
        seen += [
            word
            for word in pieces.decode(targets[targets != IGNORE].tolist()).split()
            if word.isdigit()
        ]
    assert len(seen) >= 90  # an answer that ends a sequence may touch the next one's first word


def test_predicted_tokens_are_counted_without_making_the_batch(chats: Path, model: Path) -> None:
    data = ChatData([chats], model, 128, held_out=0.1)
    numbers = range(3, 2 * data.sequences)
    counted = sum(int((data.sequence(number)[1] != IGNORE).sum()) for number in numbers)
    assert data.predicted(numbers) == counted


def test_fine_tuning_a_run_learns_the_answers(
    pydoc_data: Path, chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = tmp_path / "base", tmp_path / "chat"
    words = ["--train.steps=5", "--train.warmup_steps=1", "--model.context=128"]
    train_here(*TINY_RUN, *words, data=pydoc_data, out=base)
    settings = ["--train.batch_size=4", "--train.micro_batch=4", "--train.lr=3e-3"]
    settings += ["--train.steps=20", "--train.warmup_steps=2", "--held-out=0.1"]
    settings += ["--train.eval_every=20", "--train.dtype=float32"]
    words = ["finetune", "--from", base, "--data", chats, "--out", out, *settings]
    code, said, errors = call(capsys, *words)
    assert (code, said.startswith("base-chat: held-out loss")) == (0, True), errors
    losses = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    evals = [line["loss"] for line in losses if line.get("event") == "eval"]
    assert evals[-1] < evals[0] / 2
    # It began from the base, not from new weights.
    assert json.loads((out / "config.json").read_text())["config"]["model"]["dim"] == 64
    _, said, _ = call(capsys, "generate", out, "--prompt=[INST] say 5 [/INST]", "--tokens=8")
    assert said.startswith("[INST] say 5 [/INST]")


NO_TEXT = "has no text under 'content'"


@pytest.fixture
def base(pydoc_data: Path, tmp_path: Path) -> Path:
    words = ["--train.steps=1", "--train.warmup_steps=1", "--model.context=64"]
    train_here(*TINY_RUN, *words, data=pydoc_data, out=tmp_path / "base")
    return tmp_path / "base"


def tuned(base: Path, chats: Path, out: Path, *words: str) -> list[str | Path]:
    settings = ["--train.batch_size=4", "--train.micro_batch=2", "--train.dtype=float32"]
    settings += ["--train.warmup_steps=1", "--held-out=0.1", *words]
    return ["finetune", "--from", base, "--data", chats, "--out", out, *settings]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_planned_tokens_are_what_is_logged_and_mfu_is_of_all_that_is_computed(
    base: Path,
    chats: Path,
    tmp_path: Path,
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("llama_train.flops.peak_flops", lambda _: 1e12)
    out, tokenizer = tmp_path / "out", base / "tokenizer.model"
    count = ChatData([chats], tokenizer, 64, held_out=0.1).sequences
    words = [f"--train.batch_size={count}", f"--train.micro_batch={count}", "--epochs=2"]
    code, _, errors = call(capsys, *tuned(base, chats, out, *words))
    assert code == 0, errors
    planned, steps = planned_and_logged(recorded, out)
    assert (len(steps), sum(step["tokens"] for step in steps)) == (2, planned)
    for step in steps:
        seconds = step["tokens"] / step["tokens_per_s"]
        flops = count * 64 * flops_per_token(open_pretrained(base).shape)
        assert step["mfu"] == pytest.approx(flops / seconds / 1e12)


def test_one_rank_reads_the_weights_for_all(
    base: Path, chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, spoilt = tmp_path / "one", tmp_path / "two", tmp_path / "spoilt"
    assert call(capsys, *tuned(base, chats, one, "--train.steps=3"))[0] == 0
    shutil.copytree(base, spoilt)
    (shard,) = (spoilt / "checkpoints").glob("step-*/*.distcp")
    shard.write_bytes(bytes(shard.stat().st_size))
    whole = tuned(base, chats, two, "--train.steps=3")
    broken = tuned(spoilt, chats, tmp_path / "three")
    done = run(
        *("--", *whole, "--", *broken),
        ranks=2,
        exit_code=1,  # torchrun's own
        program=[str(Path(__file__).with_name("several.py"))],
    )
    assert losses(two) == pytest.approx(losses(one), rel=2e-4)
    said = [line for line in done.stderr.splitlines() if line.startswith("llama_train (")]
    assert [line.partition(":")[0] for line in said] == ["llama_train (rank 0)"]
    assert "The weights in" in said[0]


def test_the_weights_are_not_read_again_to_resume(
    base: Path, chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(capsys, *tuned(base, chats, out, "--train.steps=2"))[0] == 0
    (shard,) = (base / "checkpoints").glob("step-*/*.distcp")
    shard.write_bytes(bytes(shard.stat().st_size))
    assert call(capsys, *tuned(base, chats, out, "--train.steps=3"), "--resume")[0] == 0
    code, _, err = call(capsys, *tuned(base, chats, out, "--overwrite"))
    assert (code, "cannot be read" in err.splitlines()[-1]) == (2, True)
    assert losses(out), "what was to be overwritten is still there"


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        ("dim=32", "dim 32 instead of 64"),
        ("n_layers=1", "n_layers 1 instead of 2"),
        ("n_layers=3", "n_layers 3 instead of 2"),
        ("vocab_size=600", "vocab_size 600 instead of 512"),
    ],
)
def test_a_setting_that_makes_another_model_than_the_base_is_refused(
    chat_base: Path,
    rewarded: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    difference: str,
) -> None:
    align = ["align", "--reward", rewarded[1], "--method"]
    for command in (["finetune"], ["reward"], [*align, "rejection"], [*align, "ppo"]):
        words = [*command, "--from", chat_base, "--data", rewarded[0], "--out", tmp_path / "out"]
        code, _, err = call(capsys, *words, f"--model.{setting}", "--model.context=128")
        assert (code, err.count("\n")) == (2, 1), err
        assert f"another model than the one in --from: {difference}" in err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "'messages' is not a list"),
        ('{"text": "x"}', "'messages' is not a list"),
        ('{"messages": []}', "'messages' is not a list"),
        ('{"messages": [[]]}', f"message 1 {NO_TEXT}"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "must alternate"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "must alternate"),
        ('{"messages": [{"role": "system", "content": "x"}]}', "must alternate"),
        ('{"messages": [{"content": "x"}, {"content": "x"}]}', "must alternate"),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": 1}]}',
            f"message 2 {NO_TEXT}",
        ),
        (
            '{"messages":[{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]}',
            "message 2 is an empty answer",
        ),
        (r'{"messages": [{"role": "user", "content": "\ud83d"}]}', "half of a surrogate pair"),
    ],
)
def test_a_line_that_is_not_a_conversation_is_named(
    tmp_path: Path, model: Path, line: str, reason: str
) -> None:
    good = json.dumps({"messages": turns(("a", "b"))})
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(TrainError, match=f"line 2: not a conversation: .*{reason}"):
        ChatData([path], model, 128, held_out=0.1)


def test_lines_end_at_line_feeds_and_blank_ones_are_passed_over(
    tmp_path: Path, model: Path
) -> None:
    rows = [{"messages": turns((f"a\u2028{i}", "b\x85c"))} for i in range(20)]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert ChatData([path], model, 128, held_out=0.3).sequences > 1


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(TrainError, match="not UTF-8"):
        ChatData([path], model, 128, held_out=0.1)


@pytest.mark.parametrize("epochs", [0.0, -1.0, math.nan, math.inf])
def test_epochs_out_of_range_are_refused(tiny: ModelShape, epochs: float) -> None:
    with pytest.raises(TrainError, match="--epochs is"):
        CHATS["chat-7b"].finetune.config("x", tiny, 10, epochs)


def test_conversations_longer_than_the_context_are_counted(chats: Path, model: Path) -> None:
    with pytest.raises(TrainError, match="0 held out; 100 longer than the context of 8 tokens"):
        ChatData([chats], model, 8, held_out=0.1)


def test_the_fingerprint_changes_with_the_data(chats: Path, model: Path) -> None:
    before: Any = ChatData([chats], model, 128, held_out=0.1).fingerprint
    assert ChatData([chats], model, 128, held_out=0.1).fingerprint == before
    chats.write_text(chats.read_text().replace("yes 3", "yes 4"))
    assert ChatData([chats], model, 128, held_out=0.1).fingerprint != before


def test_ghost_attention_learns_the_last_answer_only(model: Path, tmp_path: Path) -> None:
    pieces = Tokenizer(model)
    messages = turns(("Hi", "Ho"), ("And?", "Bye"), system="Be brief.")
    marked = conversation(messages, pieces, last_only=True)
    assert [t for t, answer in marked if answer] == [*pieces.encode("Bye "), 2]
    # The same tokens as without it: only the loss differs.
    assert [t for t, _ in marked] == [t for t, _ in conversation(messages, pieces)]
    path = tmp_path / "chats.jsonl"
    rows = [
        {"messages": messages[:3] + turns((f"q {i}", "yes")), "ghost_attention": True}
        for i in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ChatData([path], model, 128, held_out=0.3)
    _, targets = data.sequence(0)
    assert "Ho" not in pieces.decode(targets[targets != IGNORE].tolist())


def test_a_question_waits_behind_what_was_said_before(model: Path) -> None:
    pieces = Tokenizer(model)
    messages = turns(("Hi", "Ho"), ("And?", "Bye"), system="Be brief.")
    whole = [token for token, _ in conversation(messages, pieces)]
    waiting = question(messages[:-1], pieces)
    assert whole[: len(waiting)] == waiting
    text = pieces.decode([t for t in question(messages[:-1], pieces, every=True) if t > 2])
    assert text.count("<<SYS>>") == 2


def test_answers_that_are_waited_for_are_drawn_and_learnt_without_what_helped(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "chats.jsonl", tmp_path / "out"
    ask = [{"role": "user", "content": "hi"}]
    ghost = [{"role": "system", "content": "s"}, *turns(("a", "b")), *ask]
    rows: list[Any] = [{"messages": turns((f"say {i}", f"yes {i}"))} for i in range(20)]
    rows += [{"messages": ghost, "ghost_attention": True}]
    rows += [
        {"messages": [{"role": "user", "content": f"q{i}"}], "preprompt": "Be kind."}
        for i in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--train.steps=2", "--sampling.tokens=4", "--held-out=0.3", "--model.context=128"]
    code, _, errors = call(capsys, *tuned(base, path, out, *words))
    assert code == 0, errors
    drawn = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(drawn) == 4
    assert sum(row["ghost_attention"] for row in drawn) == 1
    assert all(row["messages"][-1]["role"] == "assistant" for row in drawn)
    assert "Be kind." not in (out / "answers.jsonl").read_text()
    code, _, errors = call(capsys, *tuned(base, path, out, *words))
    assert (code, "already holds a run" in errors) == (2, True)


def test_only_the_distilled_answers_that_are_safer_are_learnt(
    chat_base: Path,
    rewarded: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    only_asked: list[object],
) -> None:
    path, out = tmp_path / "chats.jsonl", tmp_path / "out"
    rows: list[Any] = [{"messages": turns((f"say {i}", f"yes {i}"))} for i in range(20)]
    asked = [[{"role": "user", "content": f"q{i}"}] for i in range(30)]
    rows += [{"messages": messages, "preprompt": "Be kind."} for messages in asked]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--train.steps=2", "--sampling.tokens=6", "--held-out=0.3", "--model.context=128"]
    command = tuned(chat_base, path, out, *words)
    code, _, errors = call(capsys, *command, "--safety", rewarded[1])
    assert (code, len(only_asked)) == (0, 2), errors
    drawn = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    # What the model says of itself is drawn here again, and both are judged without the preprompt.
    pieces, model = Tokenizer(chat_base / "tokenizer.model"), load_pretrained(chat_base)
    plain = {n: question(messages, pieces) for n, messages in enumerate(asked)}
    helped = {n: question(kind(messages), pieces) for n, messages in enumerate(asked)}
    order = sorted(helped, key=lambda n: len(helped[n]))
    drawing = {"count": 6, "temperature": 1.0, "stop": pieces.eos}
    better = set()
    judge = load_pretrained(rewarded[1], head="scalar")
    for number, n in enumerate(order):
        (own,) = sample(model, [plain[n]], keys=[f"0/plain/{number}"], **drawing)
        (distilled,) = sample(model, [helped[n]], keys=[f"0/waiting/{number}/0"], **drawing)
        dialogues = [[*plain[n], *answer] for answer in (own, distilled)]
        before, after = scores_of(judge, dialogues, eos=pieces.eos, micro_batch=2).tolist()
        if after > before and pieces.decode(distilled).strip():
            better.add(number)
    assert {row["prompt"] for row in drawn} == better
    assert 0 < len(better) < 30
    assert f"{len(better)} of 30 distilled answers learnt" in errors


def kind(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be kind."}, *messages]


def test_a_line_that_is_no_conversation_is_named_before_answers_are_drawn(
    chat_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "chats.jsonl", tmp_path / "out"
    waiting = {"messages": [{"role": "user", "content": "q"}], "preprompt": "Be kind."}
    path.write_text(f'{json.dumps(waiting)}\n{{"messages": []}}\n')
    code, _, errors = call(capsys, *tuned(chat_base, path, out, "--sampling.tokens=4"))
    assert (code, "line 2: not a conversation" in errors, out.exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"messages": turns(("a", "b"))[:1], "preprompt": " "}, "'preprompt' is empty"),
        ({"messages": turns(("a", "b"))[:1], "ghost_attention": True}, "needs a system message"),
        ({"messages": turns(("long " * 60, "b"))[:1], "preprompt": "p"}, "leave no room"),
    ],
)
def test_a_line_whose_answer_cannot_be_drawn_is_named(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: Any, reason: str
) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps(line) + "\n")
    code, _, errors = call(capsys, *tuned(base, path, tmp_path / "out", "--sampling.tokens=4"))
    assert (code, "line 1: not a conversation" in errors, reason in errors) == (2, True, True)
