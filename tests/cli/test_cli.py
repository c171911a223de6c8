"""Every command as a person meets it: help, JSON, and one clear line for each mistake."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from carbontrack import __version__
from carbontrack.report.forms import form_of
from carbontrack.vocabulary import TableFormat
from tests.fixtures.wrap import CARBONTRACK, Wrapper, kinds

TABLE_KEYS = {
    *("label", "run_ids", "status", "devices", "gpu_hours", "power_w", "energy_kwh"),
    *("facility_kwh", "pue", "intensity_kg_per_kwh", "tco2e", "cost", "currency", "coverage"),
    *("scope", "meter", "method", "tokens", "final_loss", "assumed"),
}
COMMANDS = ["run", "runs", "show", "table", "plot", "devices", "estimate", "db"]


def test_version(wrapper: Wrapper) -> None:
    assert wrapper.carbontrack("--version").stdout == f"carbontrack {__version__}\n"


def test_console_script_and_module_are_the_same(wrapper: Wrapper) -> None:
    script = Path(sys.executable).with_name("carbontrack")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == wrapper.carbontrack("--version").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_command_does(wrapper: Wrapper, command: str) -> None:
    done = wrapper.ask(command, "--help")
    assert done.returncode == 0
    assert "Usage: carbontrack" in done.stdout
    assert len(done.stdout.splitlines()) > 8


def test_help_lists_every_command(wrapper: Wrapper) -> None:
    listed = wrapper.ask("--help").stdout
    assert [command for command in COMMANDS if f" {command} " not in listed] == []


def test_help_breaks_its_lines_where_the_terminal_ends(wrapper: Wrapper) -> None:
    wrapper.environ["COLUMNS"] = "200"
    assert "phases, attempts, nodes, events." in wrapper.ask("--help").stdout
    assert "at equal energy, and the energy to reach a loss." in wrapper.ask("compare", "-h").stdout


@pytest.mark.parametrize("group", [[], ["db"], ["factors"]])
def test_a_command_that_needs_more_shows_its_help_and_nothing_else(
    wrapper: Wrapper, group: list[str]
) -> None:
    done = wrapper.ask(*group)
    assert done.returncode == 2
    assert "Usage: carbontrack" in done.stdout + done.stderr
    assert "carbontrack: ." not in done.stderr


STEPS = ("--steps-from-log",)
ADD = ("add", "--name", "far", "--device", "A100", "--gpu-hours", "5")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--colour"], "No such option: --colour"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["runs", "--colour"], "No such option: --colour"),
        (["runs", "--format", "xml"], "xml"),
        (["run"], "Missing argument"),
        (["run", "--hz", "1000", "--", "true"], "1000 samples a second are out of range"),
        (["run", "--devices", "some", "--", "true"], "devices some: unknown"),
        (["run", "--tag", "nlp", "--", "true"], "--tag nlp: not KEY=VALUE"),
        (["run", "--meter", "vibes", "--", "true"], "no meter 'vibes'"),
        (["run", "--meter", "sim:a100", "--", "true"], "sim:a100"),
        (["run", "--meter", "auto,nvml", "--", "true"], "The meter auto stands alone"),
        (["run", *STEPS, "(?P<step>x)", "--log", "", "--", "true"], "--log is empty: is a"),
        (["run", *STEPS, "", "--log", "a.log", "--", "true"], "--steps-from-log is empty: is a"),
        (["run", *STEPS, "(?P<step>a{1,99999999999})", "--log", "a", "--", "true"], "too large"),
        (["run", *STEPS, f"{'(' * 5000}{')' * 5000}", "--log", "a", "--", "true"], "too deeply"),
        (["run", "--db", "mongodb://host/x", "--", "true"], "mongodb"),
        (["runs", "--db", "mongodb://host/x"], "mongodb"),
        (["runs", "--db", "://"], "://"),
        (["runs", "--db", "no/such.db"], "There is no ledger at"),
        (["runs", "--db", "postgresql://localhost:1/none"], "localhost"),
        (["runs", "--db", "/"], "/"),
        (["show", "nothing"], "no ledger"),
        (["estimate", "--gpu-hours", "1", "--power", "400", "--pue", "0.9"], "0.9"),
        (["estimate", "--gpu-hours", "1", "--power", "-400"], "-400"),
        (["estimate", "--gpu-hours", "1", "--power", "400", "--intensity", "-1"], "-1"),
        (["estimate", "--gpu-hours", "1", "--power", "400", "--intensity", "385"], "0.385"),
        (["estimate", "--gpu-hours", "1", "--power", "x"], "--power: 'x' is not a number."),
        (["estimate", "--gpu-hours", "1", "--power", "0,4"], "is not a number: write 0.4."),
        (["estimate", "--gpu-hours", "nan", "--power", "400"], "not a number."),
        (["plot", "lg", "--width", "nan"], "--width nan: not a number."),
        (["plot", "lg", "--width", "61"], "--width 61 inches is above 60."),
        ([*ADD, "--energy", "1,7MWh"], "--energy 1,7MWh: '1,7' is not a number: write 1.7."),
        ([*ADD, "--energy", "12,34 kWh"], "'12,34' is not a number: write 12.34."),
        ([*ADD, "--energy", "0,500 MWh"], "'0,500' is not a number: write 0.500."),
        ([*ADD, "--energy", "1,7,5 kWh"], "'1,7,5' is not a number."),
        ([*ADD, "--energy", "1.2.3 kWh"], "'1.2.3' is not a number."),
        ([*ADD, "--energy", "3"], "--energy 3: not an energy. Example: 1.2 kWh"),
        ([*ADD, "--name", "  "], "--name ' ' is empty."),
        (["run", "--name", " ", "--", "true"], "--name ' ' is empty."),
        (["run", "--project", " ", "--", "true"], "--project ' ' is empty."),
        (["run", "--tag", " =a", "--", "true"], "not KEY=VALUE"),
        (["run", "--tag", "seed= ", "--", "true"], "not KEY=VALUE"),
        (["runs", "--limit", "0"], "--limit: 0 is not from 1 to "),
        (["runs", "--limit", f"{10**30}"], f"--limit: {10**30} is not from 1 to "),
        (["table", "--limit", "ten"], "--limit: 'ten' is not a whole number."),
        (["show", "last", "last"], "too many arguments: last."),
        (["tabel"], "Did you mean 'table'?"),
        (["factors", "import", "a.csv"], "There are intensity, prices."),
        (["runs", "delete", "a"], "There is rm."),
        (
            ["collect", "--db", "x.db", "token", "add", "nlp"],
            "collect token has options of its own",
        ),
        (["collect", "--db", "x.db", "token", "list"], "--db would change nothing."),
        (["table", "--unit", "kwh"], "--unit kwh: unknown. Give kWh."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    wrapper: Wrapper, arguments: list[str], says: str
) -> None:
    ask = wrapper.carbontrack if arguments[0] == "run" else wrapper.ask
    done = ask(*arguments)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("carbontrack: ")
    assert says in done.stderr
    assert done.stdout == ""
    assert list(wrapper.folder.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize("arguments", ["--help", "config", "factors list", "config --format json"])
def test_output_that_goes_nowhere_is_a_line_at_most(wrapper: Wrapper, arguments: str) -> None:
    """On a full disk, closed, and into a pipe without a reader."""
    command = " ".join((shlex.join(CARBONTRACK), arguments))

    def said(shell: str) -> tuple[int, str]:
        words = ["bash", "-c", shell]
        done = subprocess.run(
            words, env=wrapper.env, cwd=wrapper.folder, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    assert said(f"{command} > /dev/full") == (
        1,
        "carbontrack: standard output: No space left on device.\n",
    )
    assert said(f"{command} >&-") == (0, "")
    if arguments != "--help":
        assert said(f"{command} | true; exit ${{PIPESTATUS[0]}}") == (0, "")


@pytest.mark.parametrize("arguments", ["show good", "runs", "table", "explain good"])
def test_a_reader_that_has_enough_is_no_mistake(recorded: Wrapper, arguments: str) -> None:
    """`| head`, of what is printed piece by piece, too."""
    shell = f"{shlex.join(CARBONTRACK)} {arguments} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], env=recorded.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_ledger_is_no_mistake(wrapper: Wrapper) -> None:
    assert wrapper.json("runs") == {"runs": []}
    assert "carbontrack run" in wrapper.ask("runs").stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Wrapper:
    """Two runs of a job with steps: one that completes, one that fails."""
    wrapper = Wrapper(tmp_path_factory.mktemp("recorded"))
    job = (
        "import carbontrack, sys\n"
        "carbontrack.describe_model(name='tiny', parameters=1000, planned_tokens=512)\n"
        "for step in range(1, 5):\n"
        "    carbontrack.log_step(step, loss=4 / step, lr=1e-3, tokens=128, tokens_per_s=320.0)\n"
        "carbontrack.log_event('eval', loss=1.5)\n"
        "sys.exit(int(sys.argv[1]))"
    )
    for name, code in (("good", "0"), ("bad", "9")):
        options = ("--quiet", "--name", name, "--project", "p1", "--tag", "team=nlp")
        done = wrapper.record(sys.executable, "-c", job, code, options=options)
        assert (done.returncode, done.stderr) == (int(code), "")
    return wrapper


def test_runs_and_show_tell_what_was_recorded(recorded: Wrapper) -> None:
    bad, good = recorded.json("runs")["runs"]
    assert (good["name"], good["status"], good["exit_code"]) == ("good", "completed", 0)
    assert (bad["name"], bad["status"], bad["exit_code"]) == ("bad", "failed", 9)
    assert good["tags"] == {"team": "nlp"}
    assert {"id", "started", "duration_s", "energy_kwh"} <= set(good)

    for reference in ("good", good["id"], good["id"][:-1]):
        assert recorded.json("show", reference)["id"] == good["id"]
    assert recorded.json("show", "last")["id"] == bad["id"]
    shown = recorded.json("show", "good")
    assert len(shown["devices"]) == 2
    assert sum(d["energy_kwh"] for d in shown["devices"]) == pytest.approx(good["energy_kwh"])
    for device in shown["devices"]:
        assert device["uuid"].startswith("SIM-")
        assert (device["kind"], device["quality"]) == ("gpu", "simulated")
        assert 0 < device["coverage"] <= 1
    assert kinds(shown) == ["eval"]
    assert (shown["steps"], shown["tokens"], shown["final_loss"]) == (4, 512, 1.0)
    assert shown["model"]["parameters"] == 1000
    assert shown["nodes"][0]["heartbeat"]


def test_ambiguous_and_unknown_runs_are_named(recorded: Wrapper) -> None:
    first = recorded.json("runs")["runs"][0]["id"]
    ambiguous = recorded.ask("show", first[:3])
    assert ambiguous.returncode == 2
    assert ambiguous.stderr.count("\n") == 1
    assert "ambiguous" in ambiguous.stderr
    unknown = recorded.ask("show", "nobody")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "carbontrack runs" in unknown.stderr


def test_table_has_the_keys_of_the_contract(recorded: Wrapper) -> None:
    answer = recorded.json("table", "good", "bad")
    for row in [*answer["rows"], answer["total"]]:
        assert set(row) >= TABLE_KEYS
        assert row["facility_kwh"] == pytest.approx(row["energy_kwh"] * row["pue"])
    assert len(answer["rows"]) == 2
    assert answer["total"]["tco2e"] == pytest.approx(sum(row["tco2e"] for row in answer["rows"]))
    assert {"pue", "intensity"} <= {name.split("_")[0] for name in answer["rows"][0]["assumed"]}


def test_whatever_is_simulated_says_so(recorded: Wrapper) -> None:
    formats = [
        ["--format", name]
        for name in TableFormat
        if not form_of(name).binary and name is not TableFormat.BIBTEX  # it has no number
    ]
    commands = [
        ["devices", "--meter", "sim:a100x2"],
        ["runs"],
        ["show", "good"],
        *(["table", "good", *how] for how in formats),
        ["table", "good", "--method", "report"],
        ["table", "good", "--like", "llama2"],
        ["explain", "good"],
        ["compare", "good", "bad"],
    ]
    silent = [
        command for command in commands if "simulated" not in recorded.ask(*command).stdout.lower()
    ]
    assert silent == []


def test_the_summary_goes_to_stderr_and_says_what_is_assumed(wrapper: Wrapper) -> None:
    done = wrapper.run("sh", "-c", "sleep 1; echo out", options=("--name", "seen"))
    assert done.stdout == "out\n"
    for word in ("seen", "simulated", "assumed", "CO2e", "kWh"):
        assert word in done.stderr.replace("CO₂e", "CO2e").replace(" Wh", " kWh"), done.stderr


def test_json_is_read_by_any_parser(recorded: Wrapper) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for command in (["runs"], ["show"], ["table"], ["devices"], ["db", "status"]):
        done = recorded.ask(*command, "--format", "json")
        json.loads(done.stdout, parse_constant=refuse)
