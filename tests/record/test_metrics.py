"""`run --metrics-port`: what a real Prometheus scrapes is what the ledger holds."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from carbontrack import Ledger, config
from carbontrack.account.estimate import estimate_run
from carbontrack.factors.resolve import resolve
from carbontrack.record.metrics import Metrics
from tests.fixtures.ports import free_port
from tests.fixtures.runs import Recorded
from tests.fixtures.tools import PROMETHEUS, need
from tests.fixtures.wrap import Wrapper, wait_until

RULES = Path(__file__).parents[2] / "dashboards" / "prometheus" / "carbontrack.rules.yml"
JOB = "import carbontrack; carbontrack.log_step(1, loss=2.5, tokens=64); input()"


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """A Prometheus that scrapes a port every half second; its own port."""
    port = free_port()
    settings = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "carbontrack", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            yield port
        finally:
            server.terminate()


def samples(port: int, query: str) -> list[tuple[float, float]]:
    """(time, value) of all that Prometheus has of a metric, summed over its labels."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={quote(query)}"
    try:
        with urlopen(url) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return []
    sums: dict[float, float] = {}
    for series in found:
        for at, value in series["values"]:
            sums[at] = sums.get(at, 0.0) + float(value)
    return sorted(sums.items())


def test_what_prometheus_scrapes_is_the_ledgers_energy(wrapper: Wrapper, tmp_path: Path) -> None:
    need(PROMETHEUS)
    port = free_port()
    held = wrapper.start(
        sys.executable,
        "-c",
        JOB,
        options=("--quiet", "--metrics-port", str(port)),
        stdin=subprocess.PIPE,
    )
    with prometheus(tmp_path, port) as own:
        moments = "carbontrack_as_of_timestamp_seconds[1h]"
        wait_until(lambda: len({value for _, value in samples(own, moments)}) >= 4)
        as_of, energies = dict(samples(own, moments)), {}
        for at, joules in samples(own, "carbontrack_energy_joules_total[1h]"):
            energies[at] = joules
        loss = samples(own, "carbontrack_loss[1h]")
    exposition = urlopen(f"http://127.0.0.1:{port}/metrics").read()
    _, err = held.communicate("\n")
    assert (held.returncode, err) == (0, "")

    first, last = min(energies), max(at for at in energies if at in as_of)
    seconds = Ledger(str(wrapper.ledger)).windows(level_s=1)
    ends_s = seconds["start"].astype("datetime64[ms, UTC]").astype("int64") / 1000 + 1
    between = seconds[(ends_s > as_of[first] + 0.001) & (ends_s <= as_of[last] + 0.001)]
    raw_j = energies[last] - energies[first]
    assert raw_j > 0
    assert raw_j == pytest.approx(between["energy_j"].sum(), rel=0.01)
    assert loss[-1][1] == 2.5

    done = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    for name in (
        b"carbontrack_energy_joules_total{",
        b"carbontrack_power_watts{",
        b"carbontrack_facility_energy_joules_total ",
        b"carbontrack_co2e_grams_total ",
        b'carbontrack_cost_total{currency="USD"} ',
        b"carbontrack_coverage_ratio ",
        b"carbontrack_steps_total 1.0",
        b"carbontrack_tokens_total 64.0",
        b"carbontrack_run_info{",
    ):
        assert b"\n" + name in exposition, name


def test_a_device_that_is_no_longer_read_has_no_power() -> None:
    of = Recorded(count=3, power_w=400.0)
    factors = resolve(config.resolve([]), method="measured")
    estimate = estimate_run(of.run, of.sensors, of.usages, of.step_totals, factors)
    metrics = Metrics(of.run, of.host)

    def powers_w(at_s: int, watts: dict[str, float], set_ms: int = 0) -> dict[str, float]:
        """What is served after a commit of the seconds that begin then."""
        hour, start_ms = of.windows[0][1], of.start_ms + 1000 * at_s
        seconds = [
            (uuid, replace(hour, level_s=1, start_ms=start_ms, energy_j=w, energy_s=1.0))
            for uuid, w in watts.items()
        ]
        as_of_ms = start_ms + 1000
        metrics.update(as_of_ms, of.sensors, of.usages, seconds, estimate, 0, set_ms=set_ms)
        found = {one.name: one for one in metrics.collect()}
        as_of_s = found["carbontrack_as_of_timestamp_seconds"].samples[0].value
        assert as_of_s == (as_of_ms + set_ms) / 1000
        power = found["carbontrack_power_watts"]
        return {one.labels["device"]: one.value for one in power.samples}

    first, second, third = (sensor.uuid for sensor in of.sensors)
    all_w = {first: 400.0, second: 300.0, third: 200.0}
    assert powers_w(0, all_w) == all_w
    assert powers_w(9, {first: 410.0}) == {**all_w, first: 410.0}, "a commit may be without them"
    assert powers_w(60, {first: 420.0, second: 300.0}) == {first: 420.0, second: 300.0}
    assert powers_w(61, {second: 310.0}, set_ms=-3_600_000) == {first: 420.0, second: 310.0}
    assert powers_w(120, {}) == {}
    assert powers_w(121, all_w) == all_w, "it came back"


def test_promtool_accepts_the_rules_and_they_name_what_is_served() -> None:
    need(PROMETHEUS)
    done: Any = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_port_in_use_is_a_warning_and_the_job_runs(wrapper: Wrapper) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = wrapper.run("echo", "hi", options=("--quiet", "--metrics-port", port))
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert f"carbontrack: no metrics are served on 127.0.0.1:{port}: " in done.stderr


def test_a_port_that_is_none_is_refused(wrapper: Wrapper) -> None:
    done = wrapper.run("echo", "hi", options=("--metrics-port", "99999"))
    assert done.returncode == 2
    assert "--metrics-port 99999 is no port" in done.stderr
    assert done.stdout == ""
