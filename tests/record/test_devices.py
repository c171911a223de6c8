"""The devices of a recording: those of its first job, and those that other jobs bring."""

from __future__ import annotations

from dataclasses import replace

from carbontrack.record.devices import RefreshTimer
from tests.record.test_sampler import Stamped


def gpus(*uuids: str) -> list[Stamped]:
    found = []
    for uuid in uuids:
        gpu = Stamped(0)
        gpu.device = replace(gpu.device, uuid=uuid)
        found.append(gpu)
    return found


def test_devices_that_join_between_two_writes_have_numbers_of_their_own() -> None:
    timer = RefreshTimer(gpus("GPU-0"), "node1")
    assert timer.changed(()) is None
    timer.add(gpus("GPU-1"))
    timer.add(gpus("GPU-2", "GPU-3"))
    sensors = timer.sensors
    assert [(one.uuid, one.device_key) for one in sensors] == [
        (f"GPU-{number}", number) for number in range(4)
    ]
    assert timer.changed(()) == sensors
    assert timer.changed(()) is None
