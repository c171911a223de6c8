"""`add` and `Ledger.add` on both databases: stated apart from measured, by month, and refusals."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from carbontrack import Ledger, config
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.transaction import open_ledger
from carbontrack.ledger.write import RunWriter
from dashboards.live.view import View
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, recording_of

MEASURED = Recorded(name="measured", number=1, count=2, facility={"intensity": 0.5, "pue": 1.0})
# 64 GPUs from 20 January on for 32 days, 13 h and 15 min: 12 days in January.
WORDS = (
    *("add", "--name", "far", "--device", "A100", "--devices", "64", "--gpu-hours", "50000"),
    *("--energy", "17 MWh", "--start", "2026-01-20T00:00+00:00", "--source", "report of May"),
    *("--tokens", "2T", "--intensity", "0.5", "--pue", "1.0", "--project", "nlp"),
)
IN_JANUARY = 12 * 24 / (50_000 / 64)


@pytest.fixture
def call(ledger_url: str, command: Command) -> Command:
    """A command on a ledger with one run that was measured."""
    with closing(open_ledger(ledger_url)) as opened:
        one = MEASURED
        writer = RunWriter(opened, one.begun, recording_of(one.begun), one.sensors)
        writer.commit(windows=one.windows, heartbeat_ms=one.end_ms)
        writer.finish(status=one.status, exit_code=0, ended_ms=one.end_ms)
    return lambda *words: command(*words, "--db", ledger_url)


def test_its_figures_are_stated_and_stand_apart(call: Command, ledger_url: str) -> None:
    done = call(*WORDS)
    assert (done.code, done.out.startswith("added: ")) == (0, True), done.err
    (row,) = call("table", "far", "--format", "json").json["rows"]
    assert (row["quality"], row["meter"], row["devices"]) == ("stated", "entered by hand", 64)
    assert (row["energy_kwh"], row["gpu_hours"], row["tokens"]) == (17_000, 50_000, 2 * 10**12)
    assert row["tco2e"] == pytest.approx(17_000 * 0.5 / 1000)
    assert (row["power_w"], row["coverage"]) == (pytest.approx(340), None)
    (report,) = call("table", "far", "--method", "report", "--format", "json").json["rows"]
    assert (report["energy_kwh"], report["quality"]) == (20_000, "rated power")

    table = call("table", "--format", "json").json
    total = table["total"]
    assert total["devices"] == 66
    apart = {one["kind"]: one["devices"] for one in total["subtotals"]}
    assert apart == {"measured": 2, "stated": 64}
    assert "stated: as another tool or its user says, not read here (far)" in call("table").out
    assert "17.0 MWh stated" in call("runs").out
    listed = call("runs", "--quality", "stated", "--format", "json").json["runs"]
    assert [(one["name"], one["devices"], one["status"]) for one in listed] == [
        ("far", 64, "completed")
    ]
    shown = call("show", "far", "--format", "json").json
    (stated,) = shown["stated"]
    assert stated["source"] == "report of May"
    assert stated["started"] == "2026-01-20T00:00:00.000+00:00"
    assert shown["command"][:2] == ["carbontrack", "add"]
    text = "64 × NVIDIA A100-SXM4-80GB, 50,000 GPU-hours, 17.0 MWh: report of May"
    assert text in " ".join(call("show", "far").out.split())
    explained = call("explain", "far").out
    assert text in explained
    assert "as stated" in explained
    view = View(ledger_url, config.flags())
    try:
        run = view.find("far")
        assert view.run(run)["rows"][0]["energy_kwh"] == 17_000
        assert {one["name"] for one in view.runs()["runs"]} == {"far", "measured"}
        assert view.series(run, points=50)["steps"]["step"] == []
        assert view.explain(run, method="measured")["cell"]
        assert view.totals()["total"]["energy_kwh"] == pytest.approx(17_000 + 2 * 0.72)
    finally:
        view.close()


def test_it_is_split_by_month_where_its_start_is_known(call: Command) -> None:
    call(*WORDS)
    call("add", "--name", "some time", "--device", "A100", "--gpu-hours", "100")
    rows = call("table", "--by", "month", "--method", "report", "--format", "json").json["rows"]
    hours = {row["label"]: row["gpu_hours"] for row in rows}
    assert hours["–"] == 100, "of no month"
    assert hours["2026-01"] == pytest.approx(50_000 * IN_JANUARY)
    assert hours["2026-02"] == pytest.approx(50_000 * (1 - IN_JANUARY))
    rows = call("table", "far", "--by", "month", "--format", "json").json["rows"]
    energies = {row["label"]: row["energy_kwh"] for row in rows}
    assert energies["2026-01"] == pytest.approx(17_000 * IN_JANUARY)
    assert sum(energies.values()) == pytest.approx(17_000)


def test_it_is_merged_into_any_ledger(
    call: Command, command: Command, ledger_url: str, tmp_path: Path
) -> None:
    """It has no device that others could have."""
    own = str(tmp_path / "own.db")
    assert command(*WORDS, "--db", own).code == 0
    merged = command("db", "merge", own, "--db", ledger_url)
    assert merged.code == 0, merged.err
    assert call("table", "far", "--format", "json").json["total"]["energy_kwh"] == 17_000


def test_without_a_time_it_is_in_no_range_and_no_quota_and_that_is_said(
    call: Command, ledger_url: str, tmp_path: Path
) -> None:
    untimed = ("--device", "A100", "--gpu-hours", "50000", "--energy", "17 MWh")
    call("add", "--name", "old", "--project", "nlp", *untimed)
    call("add", "--name", "other", "--project", "vision", *untimed)
    call("add", "--name", "dated", "--project", "nlp", *untimed[:-2], "--start", "2001-01-01")
    (tmp_path / "carbontrack.toml").write_text("[quota.nlp]\nkwh = 1000\ngpu_hours = 60000\n")
    both = "2 runs left out, entered without a time: other, old"

    # Whatever the clock says: all time has the day on which they were entered.
    for span in (("--since", "2000"), ("--until", "2999"), ("--since", "2000", "--until", "2999")):
        for words in (("table",), ("table", "--by", "project"), ("runs",)):
            done = call(*words, *span, "--format", "json")
            assert done.err == f"carbontrack: {both}\n", words
        found = call("table", *span, "--format", "json").json
        assert [row["label"] for row in found["rows"]] == ["measured", "dated"]
    assert [run["name"] for run in call("runs", "--format", "json").json["runs"]][:2] == [
        "other",
        "old",
    ]
    named = call("table", "old", "dated", "--since", "2000", "--format", "json")
    assert named.err == "carbontrack: 1 run left out, entered without a time: old\n"
    assert [row["label"] for row in named.json["rows"]] == ["dated"]
    assert call("table", "--since", "2000", "--project", "nobody", "--format", "json").err == ""
    assert call("table", "old", "--format", "json").json["total"]["energy_kwh"] == 17_000

    checked = call("quota", "--check", "--format", "json")
    assert checked.code == 0, checked.err
    assert [one["used"] for one in checked.json["quotas"]] == [0.0, 0.0]
    assert "1 run left out, entered without a time: old" in checked.json["notes"]
    view = View(ledger_url, config.flags())
    try:
        assert {run["name"] for run in view.runs(since_ms=0)["runs"]} == {"measured", "dated"}
        assert view.totals(since_ms=0)["total"]["energy_kwh"] == pytest.approx(2 * 0.72)
    finally:
        view.close()


def test_the_node_model_is_of_its_devices_from_start_to_end_where_no_hours_are_stated(
    call: Command,
) -> None:
    times = ("--start", "2026-01-01", "--end", "2026-01-11", "--devices", "64")
    for name, figures in (("far", ()), ("hours", ("--gpu-hours", str(64 * 240)))):
        added = ("add", "--name", name, "--device", "A100", "--energy", "1 MWh", *times, *figures)
        assert call(*added).code == 0
    model = ("--node-w-per-device", "50", "--price-per-gpu-hour", "2", "--format", "json")
    far, hours = (call("table", name, *model).json["rows"][0] for name in ("far", "hours"))
    assert far["node_kwh"] == hours["node_kwh"] == pytest.approx(64 * 240 * 0.05)
    assert far["facility_kwh"] == hours["facility_kwh"]
    assert (far["gpu_hours"], far["cost"]) == (None, None), "what is rented is not made up"
    owned = call("table", "far", "--gpu-price", "30000", "--format", "json").json["rows"][0]
    assert (owned["cost"], owned["notes"]) == (None, ["no cost: its GPU-hours are not stated"])
    steps = call("explain", "far", "--format", "json").json["explained"][0]["steps"]
    how = {step["name"]: (step["value"], step["how"]) for step in steps}
    assert how["device-hours"] == (64 * 240, "devices × duration ÷ 3600: none are stated")
    assert how["GPU-hours"] == (None, "none are stated")


def test_of_one_figure_the_other_is_unknown(call: Command) -> None:
    call("add", "--name", "hours", "--device", "A100", "--gpu-hours", "100", "--power", "350")
    call("add", "--name", "energy", "--device", "A100", "--energy", "1.5 kWh")
    both = ("--method", "measured,report", "--format", "json")
    rows = {
        (row["label"], row["method"]): row
        for name in ("hours", "energy")
        for row in call("table", name, *both).json["rows"]
    }
    assert rows["hours", "report"]["energy_kwh"] == pytest.approx(35), "by the power that is stated"
    assert rows["hours", "measured"]["energy_kwh"] is None
    assert rows["hours", "measured"]["notes"] == ["no energy is stated"]
    assert rows["energy", "measured"]["energy_kwh"] == 1.5
    assert rows["energy", "report"]["energy_kwh"] is None
    assert rows["energy", "report"]["notes"] == ["no hours are stated"]
    assert rows["energy", "measured"]["started_ms"] is None
    assert rows["energy", "measured"]["devices"] is None
    devices = [run["devices"] for run in call("runs", "--format", "json").json["runs"]]
    assert sorted(devices, key=str) == [2, None, None]
    steps = call("explain", "energy", "--format", "json").json["explained"][0]["steps"]
    (how,) = (step["how"] for step in steps if step["name"] == "devices")
    assert how == "NVIDIA A100-SXM4-80GB; how many is not stated"
    call("add", "--name", "x", "--device", "A100", "--gpu-hours", "4", "--energy", "1.2 kWh")
    some = call("table", "hours", "energy", "--format", "json").json["total"]
    assert some["gpu_hours"] == 100
    assert "GPU-hours of the total are too low: they are unknown for 1 of 2 rows" in some["notes"]
    total = call("table", "hours", "x", "--format", "json").json["total"]
    assert total["gpu_hours"] == 104
    assert total["power_w"] == pytest.approx(300), "of the hours whose energy is known"


def test_other_commands_say_what_it_lacks(call: Command) -> None:
    call(*WORDS)
    for words in (("project", "far"), ("plot", "far", "--out", "x.png")):
        refused = call(*words)
        assert (refused.code, refused.err.count("\n")) == (2, 1), (words, refused.err)
    assert call("compare", "measured", "far").code == 0


REFUSED = (
    ((), "Missing option '--name'"),
    (("--name", "x", "--device", "A100"), "neither --gpu-hours nor --energy is given"),
    (("--name", "last", "--device", "A100", "--gpu-hours", "1"), "--name 'last' is reserved"),
    (
        ("--name", "x", "--device", "A100", "--energy", "3 kWh", "--source", "x" * 5000),
        "the source has 5,000 characters, and may have 4,096",
    ),
    (("--name", "x", "--device", "A1000", "--gpu-hours", "1"), "no accelerator is named 'A1000'"),
    (("--name", "x", "--device", "A100", "--gpu-hours", "0"), "--gpu-hours 0 must be above 0"),
    (("--name", "x", "--device", "A100", "--energy", "3"), "--energy 3: not an energy"),
    (("--name", "x", "--device", "A100", "--energy", "3 kW"), "--energy 3 kW: not an energy"),
    (("--name", "x", "--device", "A100", "--energy", "-3 kWh"), "--energy -3 kWh: not an energy"),
    (
        ("--name", "x", "--device", "A100", "--gpu-hours", "1", "--devices", "0"),
        "--devices 0 must be above 0",
    ),
    (
        ("--name", "x", "--device", "A100", "--gpu-hours", "1", "--power", "-4"),
        "--power -4 W is negative",
    ),
    (
        ("--name", "x", "--device", "A100", "--gpu-hours", "1", "--end", "2026-01-01"),
        "--end needs a --start before it",
    ),
    (
        ("--name=x", "--device=A100", "--devices=1", "--gpu-hours=1e8", "--start=2026-01-31"),
        "the run would end more than a year from now. Check --gpu-hours, --devices and --start",
    ),
    (
        ("--name", "x", "--device", "A100", "--gpu-hours", "1", "--start", "1969-01-01"),
        "--start is before 1970",
    ),
    (
        ("--name", "x", "--device", "A100", "--gpu-hours", "1", "--zone", "ATLANTIS"),
        "zone 'ATLANTIS' is unknown",
    ),
    (
        ("--name", "x", "--device", "A100", "--gpu-hours", "1", "--tokens", "many"),
        "--tokens many: not a count",
    ),
)


def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_written(call: Command) -> None:
    for words, said in REFUSED:
        refused = call("add", *words)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert said in refused.err
    assert len(call("runs", "--format", "json").json["runs"]) == 1


def test_the_first_run_of_a_ledger_makes_it(command: Command) -> None:
    refused = command("add", "--name", "x", "--device", "A100", "--energy", "1 kWh", "--pue", "9")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert command("runs", "--format", "json").json["runs"] == []
    assert command("add", "--name", "x", "--device", "A100", "--energy", "1 kWh").code == 0
    assert [run["name"] for run in command("runs", "--format", "json").json["runs"]] == ["x"]


def test_from_python_and_amended_and_removed(call: Command, ledger_url: str) -> None:
    ledger = Ledger(ledger_url)
    made = ledger.add(
        "far",
        device="H100",
        devices=8,
        energy_kwh=10.0,
        start="2026-03-01",
        end="2026-03-02",
        pue=1.2,
    )
    assert made in ledger.runs()["id"].tolist()
    (row,) = ledger.table("far").to_dict("records")
    assert (row["energy_kwh"], row["devices"], row["facility_kwh"]) == (10.0, 8, 12.0)
    assert str(row["started"]) == "2026-03-01 00:00:00+00:00"
    ledger.amend("far", tokens=1_000, pue=1.1)
    (row,) = ledger.table("far").to_dict("records")
    assert (row["tokens"], row["facility_kwh"]) == (1_000, pytest.approx(11.0))
    ledger.remove("far")
    assert ledger.runs()["name"].tolist() == ["measured"]
    with pytest.raises(CarbontrackError, match="no such setting"):
        ledger.add("x", device="A100", gpu_hours=1, colour="red")


def test_no_secret_in_its_labels_is_written(call: Command) -> None:
    tags = ("--tag", "token=S11", "--tag", "tokens=2T")
    done = call(*WORDS[:1], "--name", "a token=S11", *WORDS[3:-2], "--project", "pwd=S11", *tags)
    assert (done.code, "a token=***" in done.out) == (0, True), done.err
    shown = call("show", "a token=***", "--format", "json").json
    assert (shown["project"], shown["tags"]) == ("pwd=***", {"token": "***", "tokens": "2T"})
    assert "S11" not in str(shown)
