"""Shards, their order, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_train.data import (
    TOKEN,
    Mixture,
    Prefetch,
    TokenData,
    fingerprint,
    held_out_sample,
    shuffled,
)
from llama_train.errors import TrainError


@pytest.fixture
def copied(pydoc_data: Path, tmp_path: Path) -> Path:
    """A prepared folder that a test may spoil."""
    return Path(shutil.copytree(pydoc_data, tmp_path / "data"))


@given(size=st.integers(1, 3000), key=st.text(max_size=5))
def test_the_shuffle_is_a_permutation(size: int, key: str) -> None:
    assert sorted(shuffled(i, size, key) for i in range(size)) == list(range(size))


def test_the_shuffle_shuffles_and_differs_by_key() -> None:
    orders = [[shuffled(i, 1000, key) for i in range(1000)] for key in ("a", "b")]
    for order in orders:
        neighbours = sum(abs(a - b) == 1 for a, b in pairwise(order))
        assert neighbours < 20
    assert sum(a == b for a, b in zip(*orders, strict=True)) < 20


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=5))
def test_a_mixture_keeps_its_shares_at_every_length(weights: list[float]) -> None:
    mixture = Mixture(weights)
    seen: Counter[int] = Counter()
    for number in range(2500):
        source, before = mixture.pick(number)
        assert before == seen[source]
        seen[source] += 1
    for source, weight in enumerate(weights):
        # A cycle of 1,000 rounds each share to a thousandth.
        assert seen[source] == pytest.approx(2500 * weight / sum(weights), abs=len(weights) + 3)


@pytest.mark.parametrize("share", [3e-4, 1e-4, 2e-5])
def test_a_small_share_of_a_mixture_is_read(share: float) -> None:
    mixture = Mixture([1 - share, share])
    assert sum(mixture.pick(number)[0] for number in range(100_000)) == round(share * 100_000)


def test_a_share_that_would_never_be_read_is_refused() -> None:
    with pytest.raises(TrainError, match=r"weight of source 2, 1e-06, is less than one in 100,000"):
        Mixture([1, 1e-6])


def test_what_is_fetched_ahead_is_what_is_asked_for() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        if number == 4:
            raise TrainError("no fourth")
        return number * number

    with closing(Prefetch(make, 5)) as ahead:
        assert [ahead.take(number) for number in (1, 2, 5, 1, 2, 3)] == [1, 4, 25, 1, 4, 9]
        with pytest.raises(TrainError, match="no fourth"):
            ahead.take(4)
    assert max(made) == 5


def test_an_epoch_shows_every_sequence_once_and_targets_are_the_next_tokens(
    pydoc_data: Path,
) -> None:
    data = TokenData(pydoc_data, 64, seed=3)
    (shard,) = (pydoc_data / "shards").glob("*.train.bin")
    stream = np.fromfile(shard, TOKEN)
    count = (len(stream) - 1) // 64
    starts = set()
    for number in range(count):
        tokens, targets = data.sequence(number)
        assert np.array_equal(tokens[1:], targets[:-1])
        starts.add(tokens.tobytes())
    expected = {stream[i * 64 : i * 64 + 64].astype(np.int64).tobytes() for i in range(count)}
    assert starts == expected
    second = [data.sequence(count + i)[0].tobytes() for i in range(count)]
    assert set(second) == expected
    assert second[0] != data.sequence(0)[0].tobytes()


def test_the_order_is_a_function_of_the_seed(pydoc_data: Path) -> None:
    first = [TokenData(pydoc_data, 64, seed=s).sequence(0)[0].tolist() for s in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


def test_what_is_held_out_is_evaluated_of_every_source(copied: Path) -> None:
    index = json.loads((copied / "index.json").read_text())
    (source,) = index["sources"]
    index["sources"] = [source, {**source, "name": "again"}]
    index["fingerprint"] = fingerprint(index)
    (copied / "index.json").write_text(json.dumps(index))
    samples = [held_out_sample(TokenData(copied, 32, seed=seed), 100) for seed in (0, 1)]
    assert samples[0] == samples[1], "runs of other seeds can be compared"
    data = TokenData(copied, 32)
    half = data.held_out_sequences // 2
    assert half > 100
    assert 30 < sum(number < half for number in samples[0]) < 70
    whole = held_out_sample(data, 10**6)
    assert sorted(whole) == list(range(data.held_out_sequences))


def test_a_stream_reads_across_shards(copied: Path) -> None:
    index = json.loads((copied / "index.json").read_text())
    (whole,) = index["sources"][0]["train"]
    stream = np.fromfile(copied / "shards" / whole["file"], TOKEN)
    cuts = [0, 10, 10, 100, len(stream)]
    parts = []
    for i, (a, b) in enumerate(pairwise(cuts)):
        stream[a:b].tofile(copied / "shards" / f"part-{i}.bin")
        digest = hashlib.sha256(stream[a:b].tobytes()).hexdigest()
        parts.append({**whole, "file": f"part-{i}.bin", "tokens": b - a, "sha256": digest})
    before = TokenData(copied, 32)
    index["sources"][0]["train"] = parts
    index["fingerprint"] = fingerprint(index)
    (copied / "index.json").write_text(json.dumps(index))
    after = TokenData(copied, 32)
    assert after.fingerprint != before.fingerprint
    for number in range(50):
        for a, b in zip(before.sequence(number), after.sequence(number), strict=True):
            assert np.array_equal(a, b)


def test_documents_keep_their_boundaries(pydoc_data: Path) -> None:
    index = json.loads((pydoc_data / "index.json").read_text())
    for split in ("train", "held_out"):
        (shard,) = index["sources"][0][split]
        stream = np.fromfile(pydoc_data / "shards" / shard["file"], TOKEN)
        assert stream[0] == 1
        assert np.count_nonzero(stream == 1) == shard["documents"]
        assert np.array_equal(np.flatnonzero(stream == 2)[:-1] + 1, np.flatnonzero(stream == 1)[1:])


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="holds no prepared data"):
        TokenData(tmp_path, 32)


def test_a_foreign_shard_of_the_same_size_is_refused(copied: Path) -> None:
    TokenData(copied, 32)
    (shard,) = (copied / "shards").glob("*.train.bin")
    foreign = np.random.default_rng(0).integers(0, 512, shard.stat().st_size // 2)
    foreign.astype(TOKEN).tofile(shard)
    with pytest.raises(TrainError, match="differs from the index"):
        TokenData(copied, 32)


def test_tokens_above_the_vocabulary_are_refused(copied: Path) -> None:
    index = json.loads((copied / "index.json").read_text())
    index["tokenizer"]["vocab_size"] = 400
    index["fingerprint"] = fingerprint(index)
    (copied / "index.json").write_text(json.dumps(index))
    (copied / "verified.json").unlink(missing_ok=True)
    with pytest.raises(TrainError, match="differs from the index"):
        TokenData(copied, 32)


def test_another_tokenizer_or_none_is_refused(copied: Path) -> None:
    (copied / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(TrainError, match="not the tokenizer that made the shards"):
        TokenData(copied, 32)
    (copied / "tokenizer.model").unlink()
    with pytest.raises(TrainError, match="is missing"):
        TokenData(copied, 32)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other"}'])
def test_a_foreign_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(TrainError, match="not an index of llama_train shards"):
        TokenData(tmp_path, 32)


def test_an_edited_index_is_refused(copied: Path) -> None:
    path = copied / "index.json"
    index = json.loads(path.read_text())
    del index["fingerprint"]
    for edited in (path.read_text().replace('"weight": 1.0', '"weight": 2.0'), json.dumps(index)):
        path.write_text(edited)
        with pytest.raises(TrainError, match="does not match its fingerprint"):
            TokenData(copied, 32)


def test_a_missing_or_truncated_shard_is_refused(copied: Path) -> None:
    (shard,) = (copied / "shards").glob("*.train.bin")
    os.truncate(shard, shard.stat().st_size - 2)
    with pytest.raises(TrainError, match="truncated or foreign"):
        TokenData(copied, 32)
    shard.unlink()
    with pytest.raises(TrainError, match="is missing"):
        TokenData(copied, 32)


def test_a_context_longer_than_the_data_is_refused(pydoc_data: Path) -> None:
    with pytest.raises(TrainError, match="longer than source 'pydoc'"):
        TokenData(pydoc_data, 10**6)
    with pytest.raises(TrainError, match="shorter than one context"):
        TokenData(pydoc_data, 10**5)
