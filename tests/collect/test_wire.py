"""What a node sends: the same batch arrives, and nothing that a ledger could not hold."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from carbontrack.collect.wire import (
    MAX_DOCUMENT_BYTES,
    OtherVersion,
    Refused,
    decode,
    decode_tombstone,
)
from carbontrack.ledger.batch import Batch, encode, encode_tombstone
from carbontrack.ledger.rows import Tombstone
from carbontrack.ledger.tables import RUNS
from carbontrack.record.step_lines import parse
from carbontrack.units import MS_PER_DAY, MS_PER_HOUR, now_ms
from tests.collect.batches import AMENDMENT, BEGIN_MS, RECORDED, altered, batch


def received(body: bytes) -> Batch:
    return decode(body, now_ms=now_ms(), oldest_ms=BEGIN_MS - 24 * MS_PER_HOUR)


@pytest.mark.parametrize("ended", [False, True])
def test_the_same_batch_arrives(ended: bool) -> None:
    sent = batch(0, 100, ended=ended)
    assert any(window.level_s == 1 for _, window in sent.windows) and len(sent.segments) == 4
    found = received(encode(sent))
    assert replace(found, run=sent.run) == sent
    assert RUNS.written(found.run) == RUNS.written(sent.run)


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *names, last = [int(name) if name.isdigit() else name for name in path.split(".")]
        inner: Any = document
        for name in names:
            inner = inner[name]
        inner[last] = value

    return change


def amend(field: str, after: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["amendments"][0] |= {"field": field, "after": after}

    return change


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


# A window: its sensor, start_ms, level, energy_j, energy_s, sampled_s, samples, …
# A segment: its sensor, start_ms, which seconds, energy_mj, energy_ms, sampled_ms, samples, …
@pytest.mark.parametrize(
    "change",
    [
        put("run.name", 7),
        put("run.name", "x" * 50_000),
        put("run.id", None),
        put("run.id", "0199\0"),
        put("recording.id", "/home/ada/data/train"),
        put("recording.id", "../0199aaaa-0000-7000-8000-000000000001"),
        put("recording.id", "0199AAAA-0000-7000-8000-000000000001"),
        put("recording.id", ""),
        put("amendments.0.id", "train"),
        put("run.name", "\ud800"),
        put("sensors.0.uuid", "GPU\0"),
        put("run.kind", "party"),
        put("run.started_ms", 0),
        put("run.started_ms", 1 << 70),
        put("run.array_index", 1 << 40),
        put("run.facility", nested(40)),
        put("run.facility", {"pue": "abc"}),
        put("run.facility", {"pue": "1.2"}),
        put("run.facility", {"pue": True}),
        put("run.facility", {"pue": 10**400}),
        put("run.facility", {"pue": 0.5}),
        put("run.facility", {"tariff": -0.1, "currency": "EUR"}),
        put("run.facility", {"tariff": 0.1, "currency": "euros"}),
        put("run.facility", {"zone": 5}),
        put("run.facility", {"zone": {"a": 1}}),
        put("run.facility", {"price": ["spot"]}),
        put("run.facility", {"factors_as_of": "noon"}),
        put("run.model", {"parameters": "many"}),
        put("run.model", {"planned_tokens": -1}),
        put("run.model", {"planned_tokens": {"a": 1}}),
        put("run.tags", {"a": "x" * 300_000}),
        put("recording.status", "dead"),
        put("recording.heartbeat_ms", now_ms() + MS_PER_DAY),
        put("recording.settings", []),
        put("sensors.1.uuid", batch().sensors[0].uuid),
        put("sensors.0.share", "all"),
        put("sensors.0.share", -1.0),
        put("sensors.0.rated_power_w", -400.0),
        put("sensors.1.power_limit_w", 1e16),
        put("sensors.1.update_period_ms", -1.0),
        put("sensors", {}),
        put("windows.0.0", 2),
        put("windows.0.0", -1),
        put("windows.0.1", BEGIN_MS + 1),
        put("windows.0.1", 0),
        put("windows.0.2", 30),
        put("windows.0.3", -1.0),
        put("windows.0.3", 1e300),
        put("windows.0.3", "many"),
        put("windows.0.4", 61.0),
        put("windows.0.5", -1.0),
        put("windows.0.7", -1e7),
        put("windows.0.8", 1e308),
        put("windows.0.10", 1e300),
        put("windows.0.6", -1),
        put("windows.0.6", 1 << 40),
        put("windows.0", [0]),
        put("segments.0.0", 2),
        put("segments.0.1", BEGIN_MS + 1000),
        put("segments.0.1", 0),
        put("segments.0.1", BEGIN_MS + 10**12),
        put("segments.0.2", []),
        put("segments.0.2", [60]),
        put("segments.0.2", [3, 3]),
        put("segments.0.2", list(range(59, -1, -1))),
        put("segments.0.3", [300_000] * 61),
        put("segments.0.3", [300_000] * 59),
        put("segments.0.3", []),
        put("segments.0.3", [-1]),
        put("segments.0.3", [10**9 + 1]),
        put("segments.0.3", [1.5]),
        put("segments.0.4", [None]),
        put("segments.0.4", None),
        put("segments.0.5", [1002]),
        put("segments.0.6", [1 << 15]),
        put("segments.0.10", [1 << 15]),
        put("segments.0.12", ["warm"]),
        put("segments.0.14", [-1]),
        put("segments.0.15", [1 << 12]),
        put("segments.0", [0]),
        put("live.time_ms", 0),
        put("live.power_w", [1.0]),
        put("live.power_w", [1.0, 1e9]),
        put("live.energy_j", [-1.0, None]),
        put("live.util_pct", [101.0, None]),
        put("steps.0.step", 1 << 64),
        put("steps.0.rank", 1 << 33),
        put("steps.0.time_ms", BEGIN_MS + 10**12),
        put("steps.0.loss", 1e308),
        put("steps.0.tokens", -7),
        put("events.0.0", -1),
        put("events.0.1.message", "x" * 50_000),
        put("events.0", []),
        put("amendments.0.run_id", "another"),
        put("amendments.0.after", nested(40)),
        put("amendments.0.after", {"a": 1}),
        put("amendments.0.after", 7),
        put("amendments.0.after", None),
        put("amendments.0.after", ""),
        amend("pue", "x"),
        amend("pue", [1.2]),
        amend("zone", 5),
        amend("note", {"a": 1}),
        amend("project", 1),
        amend("tag:team", 1),
        amend("tokens", -1),
        amend("tokens", 1.5),
        amend("tokens", True),
        amend("planned_tokens", "2T"),
        put("clocks.0.time_ms", -1),
        put("clocks.0.offset_ms", 10**17),
        put("clocks.0.offset_ms", -(10**17)),
        put("clocks.0.error_ms", -1),
        put("stated.0.energy_kwh", -1e9),
        put("stated.0.device_hours", -1.0),
        put("stated.0.power_w", 1e300),
        put("stated.0.devices", -2),
        put("overlaps", [[5, {"start_ms": BEGIN_MS, "energy_j": 1.0, "seconds": 1.0}]]),
        put("overlaps", [[0, {"start_ms": BEGIN_MS, "energy_j": -1.0, "seconds": 1.0}]]),
        lambda document: document.pop("run"),
    ],
)
def test_what_a_ledger_cannot_hold_is_refused_with_the_reason(
    change: Callable[[dict[str, Any]], None],
) -> None:
    with pytest.raises(Refused) as refused:
        received(altered(change))
    assert 0 < len(str(refused.value)) < 300 and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        put("run.facility", {}),
        put("run.facility", {"facility": "here", "zone": "FRA@2023", "provider": "gcp", "pue": 1}),
        put("run.facility", {"tariff": 0.2, "currency": "EUR", "factors_as_of": "2026-01-31"}),
        put("run.facility", {"gpu_price": 30_000.0, "utilisation": None, "of_a_newer_one": [1]}),
        put("run.model", {"name": 7, "parameters": 7e9, "planned_tokens": "2e12", "more": {}}),
        put("sensors.0.rated_power_w", None),
        put("sensors.0.share", 1 / 7),
        put("steps.0.loss", None),
        put("events.0.1.message", 4096 * "\\ud800" + "…"),  # as recorders have cut it
        amend("pue", 1.2),
        amend("zone", "FRA"),
        amend("project", None),
        amend("tag:team", "nlp"),
        amend("tag:team", None),
        amend("tokens", 10**18),
        amend("note", "ran in Lyon"),
        amend("undo", AMENDMENT),
        amend("of_a_newer_one", {"a": [1]}),
    ],
)
def test_what_a_recorder_sends_is_taken(change: Callable[[dict[str, Any]], None]) -> None:
    received(altered(change))


LONG = ("x" * 5000, "\ud800" * 4096, "\0" * 5000, "語" * 5000)


@pytest.mark.parametrize("text", LONG, ids=("ascii", "half", "nul", "wide"))
def test_the_longest_that_a_job_logs_arrives(text: str) -> None:
    long = {"said": text, text: [text] * 9}
    lines = ({"event": text, "message": text, **long}, {"step": 1, **long}, {"model": long})
    logged = parse(list(map(json.dumps, lines)), after_ms=BEGIN_MS, until_ms=BEGIN_MS + 1000)
    (event,), (step,) = logged.events, logged.steps
    sent = batch()
    run, events = replace(sent.run, model=logged.model), ((1, event),)
    found = received(encode(replace(sent, run=run, events=events, steps=(step.step,))))
    assert len(found.events) == len(found.steps) == 1


def test_another_version_is_named() -> None:
    with pytest.raises(OtherVersion, match="version 99 of the document"):
        received(altered(put("version", 99)))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cut off"),
        (b"abc", "not zlib"),
        (encode(batch())[:-9], "cut off"),
        (zlib.compress(b"[]"), "invalid"),
        (zlib.compress(b"\xff\xfe"), "invalid"),
        (zlib.compress(b"[" * 100_000), "invalid"),
        (zlib.compress(b'{"version":1,"run":' + b'{"a":' * 100_000), "invalid"),
        (zlib.compress(b"0" * (MAX_DOCUMENT_BYTES + 1)), "larger than"),
    ],
)
def test_a_body_that_is_no_document_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        received(body)


def test_a_tombstone_is_checked_as_a_batch_is() -> None:
    sent = Tombstone(RECORDED.run.id, BEGIN_MS, "ada", None)
    assert decode_tombstone(encode_tombstone(sent), now_ms=now_ms()) == sent
    for bad in (
        replace(sent, user="x" * 50_000),
        replace(sent, time_ms=now_ms() + 2 * MS_PER_HOUR),
        replace(sent, time_ms=-1),
        replace(sent, run_id="/home/ada/data/train"),
        replace(sent, run_id=7),  # type: ignore[arg-type]
    ):
        with pytest.raises(Refused):
            decode_tombstone(encode_tombstone(bad), now_ms=now_ms())
    with pytest.raises(Refused):
        decode_tombstone(encode(batch()), now_ms=now_ms())
    with pytest.raises(OtherVersion):
        decode_tombstone(zlib.compress(b'{"version": 99}'), now_ms=now_ms())
