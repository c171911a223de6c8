"""The fleet as the page gets it: a column per value, so that 16,384 devices are some 100 kB."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from carbontrack.ledger.live import LiveDevice
from carbontrack.vocabulary import Status


def fleet_of(
    devices: Iterable[LiveDevice],
    limits_w: Mapping[str, float],
    watches: Collection[str],
    *,
    now_ms: int,
) -> dict[str, Any]:
    """The devices by host, each once: as a job has it that is heard of, before a watch (`watches`
    are ids of runs). `host`, `run` and `name` of a device are numbers in the lists of these;
    `limits_w` are by UUID.
    """
    shown = _each_once(devices, watches)
    hosts, runs = _Numbers(), _Numbers()
    names = _Numbers()
    said: dict[str, LiveDevice] = {one.run_id: one for one in shown}
    columns: dict[str, list[Any]] = {
        "host": [hosts.of(one.host) for one in shown],
        "run": [runs.of(one.run_id) for one in shown],
        "name": [names.of(one.name) for one in shown],
        "kind": [one.kind for one in shown],
        "index": [one.index for one in shown],
        "power_w": [_rounded(one.power_w) for one in shown],
        "limit_w": [_rounded(limits_w.get(one.uuid)) for one in shown],
        "util_pct": [_rounded(one.util_pct) for one in shown],
        "heard_ms": [one.heard_ms for one in shown],
        "stale": [one.status is not Status.RUNNING for one in shown],
    }
    return {
        "now_ms": now_ms,
        "hosts": hosts.known,
        "runs": [
            {
                "id": run_id,
                "name": said[run_id].run_name,
                "project": said[run_id].project,
                "watch": run_id in watches,
            }
            for run_id in runs.known
        ],
        "names": names.known,
        "devices": columns,
    }


def _each_once(devices: Iterable[LiveDevice], watches: Collection[str]) -> Sequence[LiveDevice]:
    best: dict[str, LiveDevice] = {}
    for one in devices:
        other = best.get(one.uuid)
        if other is None or _rank(one, watches) > _rank(other, watches):
            best[one.uuid] = one
    return sorted(best.values(), key=lambda one: (one.host, one.kind, one.index, one.uuid))


def _rank(one: LiveDevice, watches: Collection[str]) -> tuple[bool, bool, int]:
    return one.status is Status.RUNNING, one.run_id not in watches, one.heard_ms


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


class _Numbers:
    """Texts, each with its number in the list of them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def known(self) -> list[str]:
        return list(self._numbers)

    def of(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))
