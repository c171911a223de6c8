"""How true is the energy? All tools watch the same stand-in GPUs, whose true energy is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.answer import Bench
from benchmarks.table import Table
from benchmarks.tools import Tool, tools
from benchmarks.wrapped import Wrapped, finish, start
from carbontrack.units import NS_PER_S
from tests.fixtures.nvml import NvmlStub, Wave, build_stub, device_uuid, mig_uuid

PERIODS_S = (0.13, 2.7, 17.0)
_HOW = (
    "Each tool wraps `sleep {seconds:g}` on the same stand-in `libnvidia-ml.so.1`, which plays an "
    "A100 (its power readings see 25 of each 100 ms) or an H100 (so do its instant ones; its "
    "average, which `nvmlDeviceGetPowerUsage` gives, is of 1 s). True power: a square wave of "
    "±150 W around 250 to 320 W, another for each GPU. Shown is the error of the GPUs' energy "
    "against the truth over the life of the job. The jobs ran side by side; their starts, which "
    "take the CPU, two at a time."
)
_STARTS_AT_ONCE = 2
_WORDS = 80  # of what a tool said instead of an energy
_FAULTY = 3  # the device that has the faults
_LOST = f"d{_FAULTY}_lost_from_s"
_SHARES = (0.05, 0.2, 0.5)  # of the polls that fail
_FAILING = {
    "counter_fail_p": "the counter's field",
    "power_fail_p": "power's field",
    "call_fail_p": "the whole call",
}
_SPIKE_S = 0.15


@dataclass(frozen=True)
class Scenario:
    """Some stand-in GPUs, and which part of their true energy a tool can be expected to find."""

    label: str
    gpu: str = "a100"
    count: int = 8
    period_s: float = 2.7
    settings: Mapping[str, Any] = field(default_factory=dict)  # from the beginning
    faults: Mapping[str, float] = field(default_factory=dict)  # times count from the job's start
    seconds: float | None = None  # None: as long as most
    environ: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[int] | None = None  # those the job sees; None: all
    share: float = 1.0

    def true_j(self, job: Wrapped) -> float:
        """What an exact meter would have found: of a lost GPU only what it used until then."""
        if _LOST not in self.faults:
            return self.share * job.true_j(self.devices)
        others = [index for index in range(self.count) if index != _FAULTY]
        lost_ns = job.began_ns + int(self.faults[_LOST] * NS_PER_S)
        return job.true_j(others) + job.node.true_energy_j(_FAULTY, job.began_ns, lost_ns)


@dataclass(frozen=True)
class Result:
    """What a tool made of a scenario: a relative error, or its last words."""

    scenario: Scenario
    tool: str
    error: float | None
    said: str

    @property
    def cell(self) -> str:
        if self.error is not None:
            return f"{100 * self.error:+.3f} %"
        words = " ".join(self.said.replace("|", "/").split())
        return f"no energy: {words[:_WORDS]}{'…' * (len(words) > _WORDS)}"


def ask(bench: Bench) -> list[Table]:
    """Errors with a counter, without one, and under each fault."""
    seconds = 3.0 if bench.quick else 40.0
    used = tools(bench.peers)
    parts = {
        "With an energy counter": _healthy(bench.quick, counter=True),
        "Without a counter": _healthy(bench.quick, counter=False),
        "Faults": _faults(seconds / 4, bench.quick),
        "Sensors that fail now and then, or lie": _doubtful(seconds / 4, bench.quick),
    }
    results = _run(bench, [s for part in parts.values() for s in part], used, seconds)
    how = [_HOW.format(seconds=seconds), "", "", ""]
    return [
        _table(title, part, used, results, said)
        for (title, part), said in zip(parts.items(), how, strict=True)
    ]


def _healthy(quick: bool, *, counter: bool) -> list[Scenario]:
    return [
        Scenario(
            f"{gpu.upper()}, {count} GPU{'s' * (count > 1)}, wave of {period_s:g} s",
            gpu,
            count,
            period_s,
            {"counter": int(counter)},
        )
        for gpu in ("a100", "h100")
        for count in (1, 8)
        for period_s in PERIODS_S
        if not quick or (gpu, count, period_s) == ("a100", 8, 0.13)
    ]


def _faults(at_s: float, quick: bool) -> list[Scenario]:
    def visible(devices: str) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": devices}

    two = ",".join(device_uuid(index) for index in (2, 5))
    found = [
        Scenario(f"One of 8 GPUs lost after {at_s:g} s", faults={_LOST: at_s}),
        Scenario(
            f"One counter of 8 reset after {at_s:g} s", faults={f"d{_FAULTY}_reset_at_s": at_s}
        ),
        Scenario("One call in 20 fails", faults={"unknown_p": 0.05}),
        Scenario("The job sees two GPUs, by UUID", environ=visible(two), devices=(2, 5)),
        Scenario(
            "The job sees a MIG instance, 3 of 7 slices",
            settings={f"d{_FAULTY}_mig": "3 2 1"},
            environ=visible(mig_uuid(_FAULTY, 0)),
            devices=(_FAULTY,),
            share=3 / 7,
        ),
    ]
    return found[:1] if quick else found


def _doubtful(at_s: float, quick: bool) -> list[Scenario]:
    """Polls that fail, on all GPUs; values that cannot be, on one of them."""
    one = f"d{_FAULTY}"
    failing = [
        Scenario(f"{what} fails in {share:.0%} of the polls", period_s=0.9, faults={name: share})
        for name, what in _FAILING.items()
        for share in _SHARES
    ]
    spike = {
        f"{one}_absurd_from_s": at_s,
        f"{one}_absurd_to_s": at_s + _SPIKE_S,
        f"{one}_absurd_w": 3.7e6,
    }
    jump = {f"{one}_jump_at_s": at_s, f"{one}_jump_j": 1e6}
    lying = [
        Scenario("One counter of 8 stands still", faults={f"{one}_frozen_from_s": 0.0}),
        Scenario(f"It stands still after {at_s:g} s", faults={f"{one}_frozen_from_s": at_s}),
        Scenario(f"It jumps by 1 MJ after {at_s:g} s", faults=jump),
        Scenario("It counts a thousandth", settings={f"{one}_counter_scale": 0.001}),
        Scenario("No counter, 3.7 MW for 150 ms", settings={f"{one}_counter": 0}, faults=spike),
    ]
    short = Scenario("8 s under a wave of 0.9 s", period_s=0.9, seconds=8.0)
    return failing[:1] if quick else [*failing, *lying, short]


def _run(
    bench: Bench, scenarios: Sequence[Scenario], used: Sequence[Tool], seconds: float
) -> list[Result]:
    stub = NvmlStub(build_stub(), bench.folder)

    def begin(number: int, scenario: Scenario, tool: Tool) -> Wrapped:
        waves = [
            Wave("square", 250.0 + 10 * i, 150.0, scenario.period_s, 0.037 * i)
            for i in range(scenario.count)
        ]
        node = stub.start(scenario.count, scenario.gpu, waves=waves, **scenario.settings)
        folder = bench.folder / f"{number}-{tool.name}"
        job = start(tool, node, folder, scenario.seconds or seconds, scenario.environ)
        if job.began:
            began_s = (job.began_ns - node.t0_ns) / NS_PER_S
            node.set(
                **{
                    name: value + (began_s if name.endswith(("from_s", "to_s", "at_s")) else 0)
                    for name, value in scenario.faults.items()
                }
            )
        return job

    with ThreadPoolExecutor(_STARTS_AT_ONCE) as pool:
        jobs = [
            (scenario, pool.submit(begin, number, scenario, tool))
            for number, scenario in enumerate(scenarios)
            for tool in used
        ]
    begun = [(scenario, job.result()) for scenario, job in jobs]
    finish([job for _, job in begun], seconds + 300)
    return [Result(scenario, job.tool.name, *_error(scenario, job)) for scenario, job in begun]


def _error(scenario: Scenario, job: Wrapped) -> tuple[float | None, str]:
    """Relative error of the energy; without one, the tool's last words."""
    energy_j = job.energy_j if job.ended else None
    if energy_j is None:
        return None, job.complaint or "no energy, and no word why"
    return energy_j / scenario.true_j(job) - 1, ""


def _table(
    title: str,
    scenarios: Sequence[Scenario],
    used: Sequence[Tool],
    results: Sequence[Result],
    how: str,
) -> Table:
    ours = [result for result in results if result.scenario in scenarios]
    cells = {(result.scenario.label, result.tool): result.cell for result in ours}
    return Table(
        title=title,
        how=how,
        columns=["", *(tool.name for tool in used)],
        rows=[[s.label, *(cells[s.label, tool.name] for tool in used)] for s in scenarios],
        raw=[
            {"scenario": r.scenario.label, "tool": r.tool, "error": r.error, "said": r.said}
            for r in ours
        ],
    )
