"""From text, JSONL and Parquet to shards, by one process or several, in one go or two."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_train import documents
from llama_train import prepare as module
from llama_train.data import TOKEN, TokenData
from llama_train.errors import TrainError
from llama_train.prepare import PYDOC, Source, parse_source, prepare
from llama_train.tokenizer import Tokenizer

ARGUMENTS: dict[str, Any] = {"vocab_size": 300, "held_out": 0.2}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"Document {i}: the sea has {i * i} waves and {i} ships, é 漢." for i in range(120)]


@pytest.fixture
def model(pydoc_data: Path) -> Path:
    return pydoc_data / "tokenizer.model"


def written(folder: Path) -> Iterator[str]:
    """Every document of the shards, as text."""
    index = json.loads((folder / "index.json").read_text())
    pieces = Tokenizer(folder / "tokenizer.model")
    for source in index["sources"]:
        for shard in (*source["train"], *source["held_out"]):
            stream = np.fromfile(folder / "shards" / shard["file"], TOKEN)
            for document in np.split(stream, np.flatnonzero(stream == pieces.bos))[1:]:
                yield pieces.decode(document[1:-1].tolist())


def as_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n\n" for text in texts))
    return path


def as_parquet(path: Path, texts: Sequence[str | None]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=50)
    return path


def small_units(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for where in (module, documents):
        monkeypatch.setattr(where, "PART_BYTES", size)


def test_every_document_of_every_format_arrives_once(
    tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small units: the JSONL file is cut in the middle of lines.
    small_units(monkeypatch, 500)
    plain = tmp_path / "plain"
    plain.mkdir()
    for i, text in enumerate(texts[:40]):
        (plain / f"{i:03d}.txt").write_text(text)
    sources = [
        parse_source(f"plain={plain}"),
        parse_source(f"lines={as_jsonl(tmp_path / 'a.jsonl', texts[40:80])}@2"),
        parse_source(str(as_parquet(tmp_path / "b.parquet", texts[80:]))),
    ]
    index = prepare(sources, tmp_path / "out", tokenizer=None, **ARGUMENTS)
    assert sorted(written(tmp_path / "out")) == sorted(texts)
    assert [source["name"] for source in index["sources"]] == ["plain", "lines", "b"]
    assert [source["weight"] for source in index["sources"]] == [1.0, 2.0, 1.0]
    assert len(index["sources"][1]["train"]) > 3
    data = TokenData(tmp_path / "out", 16)
    assert data.held_out_sequences > 3


def test_processes_and_interruptions_change_nothing(
    tmp_path: Path, texts: list[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_units(monkeypatch, 2000)
    source = [parse_source(str(as_jsonl(tmp_path / "a.jsonl", texts)))]
    once = prepare(source, tmp_path / "one", tokenizer=model, **ARGUMENTS)
    assert len(once["sources"][0]["train"]) > 2

    many = prepare(source, tmp_path / "many", tokenizer=model, jobs=2, **ARGUMENTS)
    assert many == once

    shards = tmp_path / "one" / "shards"
    (tmp_path / "one" / "index.json").unlink()
    (shards / "a-00001.json").unlink()
    stamps = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert prepare(source, tmp_path / "one", tokenizer=model, **ARGUMENTS) == once
    again = {
        path.name for path in shards.iterdir() if stamps.get(path.name) != path.stat().st_mtime_ns
    }
    assert again == {"a-00001.json", "a-00001.train.bin", "a-00001.held_out.bin"}


def test_a_changed_file_is_tokenised_again(tmp_path: Path, texts: list[str], model: Path) -> None:
    file = as_jsonl(tmp_path / "a.jsonl", texts)
    before = prepare([parse_source(str(file))], tmp_path / "out", tokenizer=model, **ARGUMENTS)
    as_jsonl(file, texts[:100])
    after = prepare([parse_source(str(file))], tmp_path / "out", tokenizer=model, **ARGUMENTS)
    assert after["fingerprint"] != before["fingerprint"]
    assert sorted(written(tmp_path / "out")) == sorted(texts[:100])


@pytest.mark.parametrize("harm", ["removed", "cut", "changed"])
def test_prepare_again_replaces_a_damaged_shard(
    tmp_path: Path, texts: list[str], model: Path, harm: str
) -> None:
    source = [parse_source(str(as_jsonl(tmp_path / "a.jsonl", texts)))]
    out = tmp_path / "out"
    before = prepare(source, out, tokenizer=model, **ARGUMENTS)
    shard = out / "shards" / before["sources"][0]["train"][0]["file"]
    whole = shard.read_bytes()
    if harm == "removed":
        shard.unlink()
    else:
        shard.write_bytes(whole[:-2] if harm == "cut" else whole[:-2] + b"\7\0")
    with pytest.raises(TrainError, match="Run prepare again"):
        TokenData(out, 16)
    assert prepare(source, out, tokenizer=model, **ARGUMENTS) == before
    assert shard.read_bytes() == whole
    TokenData(out, 16)


def test_the_built_in_corpus_is_the_same_each_time(pydoc_data: Path, tmp_path: Path) -> None:
    prepare([Source(PYDOC, ())], tmp_path, tokenizer=None, vocab_size=512, held_out=0.08)
    here, there = (json.loads((f / "index.json").read_text()) for f in (pydoc_data, tmp_path))
    assert here["fingerprint"] == there["fingerprint"]
    train, held_out = (here["sources"][0][split][0]["tokens"] for split in ("train", "held_out"))
    assert 0.03 < held_out / (train + held_out) < 0.2


def test_the_tokenizer_is_made_as_llama_2s_is(model: Path) -> None:
    pieces = Tokenizer(model)
    assert (pieces.vocab_size, pieces.bos, pieces.eos) == (512, 1, 2)
    digits = pieces.encode("2023")
    assert [pieces.decode([token]).strip() for token in digits if pieces.decode([token])] == [
        "2",
        "0",
        "2",
        "3",
    ]
    assert pieces.encode("\n")[-1] == 13  # the byte piece <0x0A>, as in Llama 2


@given(text=st.text(max_size=50).filter(lambda text: "\0" not in text))
def test_any_text_comes_back(pydoc_data: Path, text: str) -> None:
    pieces = Tokenizer(pydoc_data / "tokenizer.model")
    # SentencePiece marks spaces with this sign, and so cannot tell the two apart.
    assert pieces.decode(pieces.encode(text)) == text.replace("▁", " ")


def test_the_folder_one_is_in_is_a_source(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    index = prepare([parse_source(".")], tmp_path / "out", tokenizer=model, **ARGUMENTS)
    (source,) = index["sources"]
    assert sum(shard["documents"] for shard in source["train"] + source["held_out"]) == 1


BAD = {
    "bad.jsonl": (b'{"text": "a"}\n{"txt": "b"}\n', "line at byte 14: no text under 'text'"),
    "null.jsonl": (b'{"text": "a"}\n{"text": null}\n', "line at byte 14: no text under 'text'"),
    "list.jsonl": (b"[1]\n", "line at byte 0: no text under 'text'"),
    "cut.jsonl": (b'{"text": "a"}\n{"te', "line at byte 14: invalid JSON"),
    "deep.jsonl": (b"[" * 100_000, "line at byte 0: invalid JSON"),
    "half.jsonl": (b'{"text": "a\\ud83d"}\n', r"line at byte 0: the text has half of a surrogate"),
    "latin.jsonl": (b'{"text": "\xe9"}\n', "line at byte 0: invalid JSON"),
    "bad.parquet": (b"not parquet", "not a Parquet file"),
    "latin.txt": (b"\xe9t\xe9", "not UTF-8"),
    "bad.txt.gz": (b"not gzip", r"bad\.txt\.gz cannot be read"),
    "a.csv": (b"a", "does not end in"),
    "a.parquet.gz": (b"a", "does not end in"),
}


@pytest.mark.parametrize("with_tokenizer", [True, False])
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_said_with_its_place(
    tmp_path: Path, model: Path, name: str, with_tokenizer: bool
) -> None:
    """Also where it is read to train the tokenizer, which hides what its iterator raises."""
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainError, match=message):
        source = parse_source(f"x={tmp_path / name}")
        given = model if with_tokenizer else None
        prepare([source], tmp_path / "out", tokenizer=given, **ARGUMENTS)
    assert not (tmp_path / "out" / "index.json").exists()


def test_what_is_not_there_is_said(tmp_path: Path, model: Path) -> None:
    as_parquet(tmp_path / "null.parquet", ["a", None])
    (tmp_path / "empty").mkdir()
    cases = {
        "null.parquet": "row 1 of row group 0: no text under 'text'",
        "empty": "holds no file that ends in",
        "none.txt": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(TrainError, match=message):
            source = parse_source(f"x={tmp_path / name}")
            prepare([source], tmp_path / "out", tokenizer=model, **ARGUMENTS)


def test_a_folder_is_read_whatever_else_it_holds(
    tmp_path: Path, model: Path, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "LATIN.txt").write_bytes(b"\xe9t\xe9")
    (folder / "a.csv").write_text("a")
    (folder / "b.pdf").write_text("a")
    (folder / "UPPER.TXT").write_text(texts[0])
    (folder / "b.md.gz").write_bytes(gzip.compress(texts[1].encode()))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[2:6])
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pyarrow = pytest.importorskip("pyarrow", reason="zstd needs pyarrow")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[6:10])
    (folder / "d.jsonl.zst").write_bytes(
        pyarrow.compress(lines.encode(), codec="zstd", asbytes=True)
    )
    prepare([parse_source(str(folder))], tmp_path / "out", tokenizer=model, **ARGUMENTS)
    assert sorted(written(tmp_path / "out")) == sorted(texts[:10])
    said = capsys.readouterr().err
    assert f"{folder}: 2 files skipped (1 .csv, 1 .pdf)" in said
    assert f"skipped: {folder / 'LATIN.txt'} is not UTF-8 text" in said


@pytest.mark.parametrize("weight", ["0", "-1", "much"])
def test_a_bad_weight_is_refused(weight: str) -> None:
    with pytest.raises(TrainError, match="not a number above 0"):
        parse_source(f"x=a.txt@{weight}")


def test_a_bad_tokenizer_or_share_is_refused(tmp_path: Path, texts: list[str]) -> None:
    file = as_jsonl(tmp_path / "a.jsonl", texts)
    source = [parse_source(str(file))]
    with pytest.raises(TrainError, match="not a SentencePiece model"):
        prepare(source, tmp_path / "out", tokenizer=file, **ARGUMENTS)
    with pytest.raises(TrainError, match="does not exist"):
        prepare(source, tmp_path / "out", tokenizer=tmp_path / "no.model", **ARGUMENTS)
    with pytest.raises(TrainError, match="No tokenizer of 100000 pieces"):
        prepare(source, tmp_path / "out", tokenizer=None, vocab_size=100_000, held_out=0.2)
    with pytest.raises(TrainError, match="between 0 and 1"):
        prepare(source, tmp_path / "out", tokenizer=None, vocab_size=300, held_out=1.0)
    with pytest.raises(TrainError, match="same name"):
        prepare(source * 2, tmp_path / "out", tokenizer=None, **ARGUMENTS)
