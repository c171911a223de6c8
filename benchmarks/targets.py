"""The targets of the project beside what was measured for them, reached or not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.table import Table

_DAYS = "Thirty-five days"
_Answers = Mapping[str, Any]  # a question's tables' raw figures by their titles


@dataclass(frozen=True)
class Target:
    """At most (or at least) `limit`, of what `measured` finds in a question's answer."""

    question: str
    what: str
    limit: float
    unit: str
    measured: Callable[[_Answers], float]
    at_least: bool = False

    def row(self, answers: _Answers) -> list[str]:
        value = self.measured(answers)
        found = f"{_digits(value)} {self.unit}"
        if not math.isfinite(value):
            found = "not measured" if math.isnan(value) else "no energy"
        reached = value >= self.limit if self.at_least else value <= self.limit
        return [
            f"{self.what} ({self.question})",
            f"{'≥' if self.at_least else '≤'} {_digits(self.limit)} {self.unit}",
            found,
            "yes" if reached else "**no**",
        ]


def _digits(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) and value >= 1000 else f"{value:.3g}"


def table(questions: Mapping[str, Any]) -> Table | None:
    """The targets of those questions that were answered; None where there are none of them."""
    rows = list(_rows(questions))
    if not rows:
        return None
    return Table(
        title="Asked and measured",
        how="Medians, where a target does not say otherwise, of the tables below.",
        columns=["", "asked", "measured", "reached"],
        rows=rows,
        raw=None,
    )


def _rows(questions: Mapping[str, Any]) -> Iterator[list[str]]:
    for target in TARGETS:
        if target.question in questions:
            tables = questions[target.question]["tables"]
            yield target.row({one["title"]: one["raw"] for one in tables})


def _worst_error(title: str, gpu: str) -> Callable[[_Answers], float]:
    def measured(answers: _Answers) -> float:
        ours = [
            one["error"]
            for one in answers[title]
            if one["tool"] == "carbontrack" and one["scenario"].startswith(f"{gpu}, 8 GPUs")
        ]
        return max((math.inf if e is None else 100 * abs(e) for e in ours), default=0.0)

    return measured


def _short(which: str) -> Callable[[_Answers], float]:
    return lambda answers: statistics.median(answers["A job that ends at once"][which][_US])


def _long(answers: _Answers) -> Mapping[str, float]:
    (found,) = (raw for title, raw in answers.items() if title.endswith("on 8 GPUs"))
    ours: Mapping[str, float] = found[_US]
    return ours


def _crowd(which: str) -> Callable[[_Answers], float]:
    return lambda answers: float(answers["Short jobs at once on one ledger"][which])


def _failed(answers: _Answers) -> float:
    return sum(bool(one["problems"]) for one in answers["carbontrack, killed at random moments"])


def _lost(answers: _Answers) -> float:
    found = answers["Lost work of killed attempts"]
    told_j, true_j = (sum(one[name] for one in found) for name in ("told_j", "true_j"))
    error: float = told_j / true_j - 1
    return 100 * abs(error)


def _import(answers: _Answers) -> Mapping[str, float]:
    found: Mapping[str, float] = answers["A log of nvidia-smi"]
    return found


def _dashboards(
    which: str, of: Callable[[Sequence[float]], float], title: str = f"{_DAYS} of 8 GPUs"
) -> Callable[[_Answers], float]:
    def measured(answers: _Answers) -> float:
        found = answers.get(title, {})
        return of(found[which]) if which in found else math.nan

    return measured


def _training(
    name: str, compiled: bool, answers: _Answers, *, bfloat16: bool = False
) -> Mapping[str, Any] | None:
    """An implementation's steps with equal settings; None if the question was asked without it."""
    wanted = {"name": name, "compiled": compiled, "bfloat16": bfloat16, "settings": True}
    usual = {"bfloat16": False, "settings": True}
    steps: list[Mapping[str, Any]] = [one for found in answers.values() for one in found]
    for one in steps:
        if wanted.items() <= (usual | dict(one)).items():
            return one
    return None


def _gain(answers: _Answers) -> float:
    """Of bfloat16, over the same code in float32; the ratio of medians."""
    found = [_training("llama_train", False, answers, bfloat16=wide) for wide in (False, True)]
    if found[0] is None or found[1] is None:
        return math.nan
    return float(statistics.median(found[0]["steps_s"]) / statistics.median(found[1]["steps_s"]))


def _speed(compiled: bool) -> Callable[[_Answers], float]:
    def of(answers: _Answers) -> float:
        ours = _training("llama_train", compiled, answers)
        return float(statistics.median(ours["times_faster"])) if ours else math.nan

    return of


def _memory(compiled: bool) -> Callable[[_Answers], float]:
    def of(answers: _Answers) -> float:
        ours = _training("llama_train", compiled, answers)
        theirs = _training("transformers", False, answers)
        return float(ours["memory_mib"] / theirs["memory_mib"]) if ours and theirs else math.nan

    return of


def _chat(of: Callable[[Mapping[str, Any]], float], worst: Callable[..., float] = min) -> Any:
    """The worst of the seeds."""
    return lambda answers: worst(map(of, answers["The demo's chat stages"]))


def _worth(run: str) -> Callable[[Mapping[str, Any]], float]:
    """The mean of the answers of a seed's run."""
    return lambda seed: statistics.fmean(seed["worth"][run])


def _gain_in_errors(seed: Mapping[str, Any]) -> float:
    """Of the held-out reward by PPO, in standard errors of the difference."""
    (before, after), errors = seed["reward"], seed["reward_error"]
    return float((after - before) / math.hypot(*errors))


def _answers(which: str) -> Callable[[_Answers], float]:
    return lambda answers: float(answers["Log-likelihoods of answers"][which])


def _fleet(*names: str, title: str = "A fleet in real time") -> Callable[[_Answers], float]:
    def measured(answers: _Answers) -> float:
        found = answers[title]
        for name in names:
            found = found[name]
        return float(found)

    return measured


def _month_ms(answers: _Answers) -> float:
    return float(statistics.median(answers["A report over a month of a fleet"]["hours_ms"]))


def _cores(answers: _Answers) -> float:
    return sum(_fleet(f"{of}_cores")(answers) for of in ("collector", "server"))


def _shipping_mib(answers: _Answers) -> float:
    found = answers["A recorder that ships"]
    return float(found["ships_mib"] - found["alone_mib"])


_US = "carbontrack"
_TWO = "Two jobs at once"
_KEPT, _STAGED = "A fleet's seconds", "staged segments ÷ bare COPY of"
_COUNTER, _NONE = "With an energy counter", "Without a counter"
TARGETS = [
    Target(
        "energy_truth", "worst error, counter, 8 A100s", 0.05, "%", _worst_error(_COUNTER, "A100")
    ),
    Target(
        "energy_truth", "worst error, counter, 8 H100s", 0.05, "%", _worst_error(_COUNTER, "H100")
    ),
    Target("energy_truth", "worst error, no counter, 8 A100s", 1, "%", _worst_error(_NONE, "A100")),
    Target("energy_truth", "worst error, no counter, 8 H100s", 2, "%", _worst_error(_NONE, "H100")),
    Target("kill", "kills after which a promise did not hold", 0, "", _failed),
    Target("lost", "error of the sum of lost work", 0.5, "%", _lost),
    Target("watching", "until the job's exec", 120, "ms", _short("before_ms")),
    Target("watching", "after the end of a job of 40 s", 150, "ms", lambda a: _long(a)["after_ms"]),
    Target("watching", "after the end of a job of an instant", 150, "ms", _short("after_ms")),
    Target(
        "watching", "CPU of the watcher, 8 GPUs", 0.5, "%", lambda a: 100 * _long(a)["cpu_share"]
    ),
    Target(
        "watching",
        "peak memory of the recorder",
        64,
        "MB",
        lambda a: _long(a)["largest_mib"] * 1.048576,
    ),
    Target("crowd", "two jobs at once ÷ bare ones", 1.5, "×", lambda a: a[_TWO]["ratio"]),
    Target("crowd", "wrong exit codes of 300 at once", 0, "", _crowd("wrong_codes")),
    Target("crowd", "lost of 300 at once", 0, "", _crowd("lost")),
    Target(
        "importing", "a log of 1 GB", 20, "MB/s", lambda a: _import(a)["mb_per_s"], at_least=True
    ),
    Target("importing", "peak memory of that", 200, "MB", lambda a: _import(a)["peak_mb"]),
    Target(
        "dashboards", "35 days read and drawn", 2, "s", _dashboards("draw_s", statistics.median)
    ),
    Target("dashboards", "peak memory of that", 300, "MiB", _dashboards("draw_mib", max)),
    Target(
        "dashboards",
        "first chart after the page's load",
        500,
        "ms",
        _dashboards("first_chart_ms", statistics.median),
    ),
    Target("dashboards", "slowest zoom", 100, "ms", _dashboards("zoom_ms", max)),
    Target(
        "dashboards",
        "slowest zoom, a team's ledger",
        100,
        "ms",
        _dashboards("zoom_ms", max, "A team's ledger"),
    ),
    Target(
        "dashboards",
        "first chart of 256 GPUs",
        1000,
        "ms",
        _dashboards("first_chart_ms", statistics.median, f"{_DAYS} of 256 GPUs"),
    ),
    Target(
        "dashboards",
        "a fresh server's answers for it, 256 GPUs",
        1000,
        "ms",
        _dashboards("fresh_ms", statistics.median, f"{_DAYS} of 256 GPUs"),
    ),
    Target(
        "fleet", "bytes a device-second", 35, "B", _fleet("bytes_per_device_second", title=_KEPT)
    ),
    Target(
        "fleet",
        f"{_STAGED} them",
        0.65,
        "×",
        _fleet("ratios", f"{_STAGED} them", title=_KEPT),
        True,
    ),
    Target(
        "fleet", f"{_STAGED} rows", 5, "×", _fleet("ratios", f"{_STAGED} rows", title=_KEPT), True
    ),
    Target("fleet_load", "from post to commit, 99 %", 5, "s", _fleet("late_s", "p99")),
    Target(
        "fleet_load", "from a second to its commit, 99 %", 75, "s", _fleet("seconds_late_s", "p99")
    ),
    Target("fleet_load", "CPU of collector and PostgreSQL", 0.5, "cores", _cores),
    Target("fleet_load", "a backlog ÷ the steady rate", 3, "×", _fleet("burst_over_steady"), True),
    Target("fleet_load", "newest power of all", 20, "ms", _fleet("sql_ms")),
    Target("fleet_load", "memory of shipping", 14, "MiB", _shipping_mib),
    Target(
        "fleet_month", "report over a month of 16,384 GPUs: its hours, in SQL", 100, "ms", _month_ms
    ),
    Target("evaluation", "speed of llama_train ÷ lm-eval's", 0.9, "×", _answers("median"), True),
    Target("evaluation", "difference of log-likelihoods", 1e-4, "nats", _answers("most_nats")),
    Target("training", "speed of llama_train in bf16 ÷ in fp32", 1.1, "×", _gain, True),
    Target("chat", "accuracy of reward models", 0.65, "", _chat(lambda s: s["accuracy"]), True),
    Target(
        "chat",
        "of pairs that are significantly better",
        0.75,
        "",
        _chat(lambda s: s["by_grade"]["significantly"]),
        True,
    ),
    *(
        Target("chat", f"worth by the rule {when}", least, "of 8", _chat(_worth(run)), True)
        for run, when, least in (
            ("rejection", "after rejection sampling", 5.0),
            ("ppo", "after PPO", 7.0),
        )
    ),
    Target("chat", "gain of reward by PPO", 2, "standard errors", _chat(_gain_in_errors), True),
    Target("chat", "KL of PPO, nats an answer", 15, "", _chat(lambda s: s["kl"], max)),
    *(
        Target("training", f"{what}, {way}", limit, "×", of(way == "compiled"), at_least)
        for way in ("eager", "compiled")
        for what, limit, of, at_least in (
            ("speed of llama_train ÷ a plain loop", 1.15, _speed, True),
            ("memory of llama_train ÷ a plain loop", 1.0, _memory, False),
        )
    ),
]
