"""`explain`, `compare`, `project` and `config` on real ledgers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from carbontrack import config
from carbontrack.account.estimate import estimate_run
from carbontrack.factors.resolve import resolve
from carbontrack.report.explain import explain
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded, write_ledger

MODEL = {"name": "tiny", "parameters": 68_980_000, "planned_tokens": 1_000_000}
FIRST = Recorded(name="first", number=1, model=MODEL, steps=40)
SECOND = Recorded(name="second", number=2, model=MODEL, steps=80, seconds=14_400.0, power_w=300.0)
CPU = Recorded(name="cpu", number=3, kind="cpu", count=2, meter="cpu-model", quality="estimate")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return write_ledger(tmp_path / "ledger.db", FIRST, SECOND, CPU)


@pytest.mark.parametrize("run", ["first", "second", "cpu"])
@pytest.mark.parametrize("method", ["measured", "report"])
def test_the_last_line_is_the_tables_cell(
    command: Command, ledger: Path, run: str, method: str
) -> None:
    text = command("explain", run, "--method", method, "--zone", "DEU").out
    last = text.splitlines()[-1]
    table = command("table", run, "--method", method, "--zone", "DEU").out
    heads, units, _, cells = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[:4])
    last_columns = len(heads) - heads.index("CO₂e") + 1  # and coverage, whose head is in line two
    assert last == f"CO₂e {cells[-last_columns]} {units[-last_columns]}".replace("– t", "–")


def test_each_step_follows_from_those_before(command: Command, ledger: Path) -> None:
    answer = command("explain", "first", "--format", "json").json["explained"][0]
    value = {step["name"]: step["value"] for step in answer["steps"]}
    assert value["device-hours"] == pytest.approx(value["duration"] * value["devices"] / 3600)
    assert value["energy"] == pytest.approx(value["power"] * value["device-hours"] / 1000)
    assert value["facility"] == pytest.approx(value["energy"] * value["PUE"])
    assert value["tCO₂e"] == pytest.approx(value["facility"] * value["intensity"] / 1000)
    assert value["tCO₂e"] == answer["row"]["tco2e"]
    how = {step["name"]: step["how"] for step in answer["steps"]}
    assert "assumed" in how["PUE"]
    assert "version 2026-04-29" in how["intensity"]
    assert "sum of 16 hourly windows of 8 devices" in how["energy"]


def test_explain_of_a_mig_slice_is_true_arithmetic(command: Command, tmp_path: Path) -> None:
    slices = [replace(s, share=3 / 7, mig_parent="GPU-1") for s in FIRST.sensors]
    row = estimate_run(
        FIRST.run,
        slices,
        FIRST.usages,
        FIRST.step_totals,
        resolve(config.resolve([]), method="measured"),
    )
    how = {line.name: line.how for line in explain(row, FIRST.usages)}
    assert "× the share of a GPU that each MIG instance is ÷ 3600" in how["device-hours"]
    assert "÷ 16 h it accounts for" in how["power"]
    assert "6.85714 h of NVIDIA A100" in how["GPU-hours"]
    whole = replace(row, device_hours=16.0)
    attempts = replace(whole, duration_s=3 * FIRST.seconds)  # that long with the time between them
    for one, begins in ((whole, "duration × devices ÷"), (attempts, "how long each device's")):
        how = {line.name: line.how for line in explain(one, FIRST.usages)}
        assert how["device-hours"].startswith(begins)
        assert not any("MIG" in text for text in how.values())


def test_explain_of_own_hardware_names_each_factor(command: Command, ledger: Path) -> None:
    Path("carbontrack.toml").write_text(
        "pue = 1.2\nwue = 1.8\ntariff = 0.1\ngpu_price = 30000\nlifetime_years = 4\n"
        "node_w = 300\nnode_w_per_device = 20\ncontract_intensity = 0.02\nintensity = 0.3\n"
    )
    (answer,) = command("explain", "first", "--embodied", "--format", "json").json["explained"]
    steps = {step["name"]: step for step in answer["steps"]}
    value = {name: step["value"] for name, step in steps.items()}
    assert value["node"] == pytest.approx(2 * (300 + 8 * 20) / 1000)
    assert "(20 W × 16 device-hours + 300 W × 2 node-hours) ÷ 1000" in steps["node"]["how"]
    assert value["water"] == pytest.approx((value["energy"] + value["node"]) * 1.8)
    life_h = value["lifetime"] * 8760 * value["utilisation"]
    assert value["embodied"] == pytest.approx(
        value["GPU-hours"] * value["embodied kg"] / life_h / 1000
    )
    assert value["cost"] == pytest.approx(
        value["facility"] * value["tariff"] + value["GPU-hours"] * value["GPU's price"] / life_h
    )
    assert value["market-based"] == pytest.approx(value["facility"] * value["contract"] / 1000)
    assert value["SCI"] == answer["row"]["sci_g_per_mtok"]
    for name in ("lifetime", "tariff", "GPU's price", "contract"):
        assert "carbontrack.toml" in steps[name]["how"], name
    text = " ".join(command("table", "first", "--embodied").out.split())
    assert "node model, modelled: 300 W" in text
    assert "modelled: what no meter sees of the nodes" in text


def test_explain_without_energy_or_devices_states_nothing_false(
    command: Command, tmp_path: Path
) -> None:
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="unseen", number=1, coverage=0.0),
        Recorded(name="empty", number=2, count=0),
    )
    rented = command("explain", "unseen", "--price-per-gpu-hour", "2", "--format", "json").json
    steps = {step["name"]: step for step in rented["explained"][0]["steps"]}
    assert steps["cost"]["value"] == 32.0
    assert "0 of 57600 device-seconds were sampled" in steps["coverage"]["how"]
    assert "nothing is guessed" in steps["coverage"]["how"]
    by_kwh = command("explain", "unseen", "--format", "json").json["explained"][0]["steps"]
    assert "no energy to pay for" in by_kwh[-1]["how"]
    text = command("explain", "empty").out
    assert "no device was recorded" in text
    assert "; ," not in text
    cpu = write_ledger(tmp_path / "cpu.db", CPU)
    said = command("explain", "cpu", "--price-per-gpu-hour", "2", "--db", str(cpu)).out
    assert "no GPU-hours to pay for" in said
    assert "no tariff" not in said


def test_what_little_energy_losses_are_compared_at_has_its_unit(
    command: Command, tmp_path: Path
) -> None:
    write_ledger(
        tmp_path / "ledger.db",
        Recorded(name="less", number=1, count=2, seconds=60, power_w=1.0),
        Recorded(name="more", number=2, count=2, seconds=60, power_w=2.0),
    )
    assert "loss at 33.3 mWh, a mean over" in command("compare", "less", "more").out


def test_compare(command: Command, ledger: Path) -> None:
    answer = command("compare", "first", "second", "--format", "json").json
    by_name = {measure["name"]: measure for measure in answer["measures"]}
    assert by_name["energy"]["a"] == pytest.approx(16 * 0.36)
    assert by_name["energy"]["b"] == pytest.approx(32 * 0.30)
    assert by_name["energy"]["ratio"] == pytest.approx(32 * 0.30 / (16 * 0.36))
    assert by_name["energy per token"]["a"] == pytest.approx(16 * 0.36 * 3.6e6 / (40 * 1024))
    equal = by_name["loss at 5.76 kWh, a mean over 10 steps"]
    for name, steps in (("a", FIRST.step_rows[30:]), ("b", SECOND.step_rows[38:48])):
        mean = sum(step.loss or 0.0 for step in steps) / 10  # of 80 steps 5.76 / 9.6 kWh
        assert equal[name] == pytest.approx(mean)
    (reached,) = (m for name, m in by_name.items() if name.startswith("energy to reach loss"))
    assert reached["b"] < reached["a"] or reached["apart"][1] is False
    text = command("compare", "first", "second").out
    assert "energy per token" in text
    assert "assumed" in text


def seeds(name: str, at: int, watts: list[float]) -> list[Recorded]:
    return [
        Recorded(
            name=f"{name}-seed{n}",
            number=at + n,
            power_w=w,
            tags={"seed": f"{n}"},
            steps=80,
        )
        for n, w in enumerate(watts, start=1)
    ]


def test_groups_of_seeds_have_a_mean_a_spread_and_no_verdict_within_it(
    command: Command, tmp_path: Path
) -> None:
    base = seeds("base", 0, [340.0, 360.0, 380.0])
    like = seeds("like", 10, [345.0, 365.0, 385.0])
    less = seeds("less", 20, [100.0, 110.0])
    write_ledger(tmp_path / "ledger.db", *base, *like, *less)
    names = [one.name for one in (*base, *like, *less)]
    answer = command("compare", *names, "--group", "tag:seed", "--format", "json").json
    assert [side["name"] for side in answer["sides"]] == ["base", "like", "less"]
    assert [len(side["rows"]) for side in answer["sides"]] == [3, 3, 2]
    energy = next(m for m in answer["measures"] if m["name"] == "energy")
    assert energy["values"][0]["mean"] == pytest.approx(16 * 0.36)
    assert energy["values"][0]["sd"] == pytest.approx(16 * 0.02)
    assert energy["apart"] == [False, False, True]
    assert energy["ratios"][2] == pytest.approx(105 / 360)
    reached = next(m for m in answer["measures"] if m["name"].startswith("energy to reach loss"))
    assert reached["apart"] == [False, False, True]
    text = command("compare", *names, "--group", "tag:seed").out
    (line,) = (line for line in text.splitlines() if line.startswith(" energy   "))
    assert "5.76 ± 0.32" in line
    assert "≈" in line
    assert "× 0.292" in line
    assert "base: mean ± standard deviation of 3 runs" in text


def test_compare_of_several_runs(command: Command, ledger: Path) -> None:
    text = command("compare", "first", "second", "cpu").out
    assert "2 ÷ 1" in text
    assert "3 ÷ 1" in text
    measures = command("compare", "first", "second", "cpu", "--format", "json").json["measures"]
    assert {len(measure["values"]) for measure in measures} == {3}
    for mistake, said in (
        (["first"], "There is one run to compare, first"),
        (["first", "second", "--group", "tag:seed"], "none of these runs has the tag seed"),
        (["first", "second", "--group", "seed"], "--group seed: unknown"),
        (["first", "second", "first"], "first is named twice"),
    ):
        done = command("compare", *mistake)
        assert (done.code, said in done.err) == (2, True), done.err


def test_runs_of_one_name_are_a_group_by_their_seed(command: Command, tmp_path: Path) -> None:
    alike = [replace(one, name="same") for one in seeds("x", 0, [300.0, 310.0])]
    other = replace(alike[0], number=9, tags={"seed": "1", "lr": "3"})
    write_ledger(tmp_path / "ledger.db", *alike, other)
    answer = command("compare", "same", "--group", "tag:seed", "--format", "json").json
    sides = {side["name"]: len(side["rows"]) for side in answer["sides"]}
    assert sides == {"same (no other tag)": 2, "same (lr=3)": 1}
    by_tag = command("compare", "same", "--group", "tag:lr", "--format", "json").json
    assert len(by_tag["sides"]) == 2
    by_user = command("compare", "same", "--group", "user")
    assert "There is one group to compare, ada" in by_user.err


def test_compare_shows_the_factors_in_which_the_runs_differ(
    command: Command, tmp_path: Path
) -> None:
    where = [{"pue": 1.2, "zone": "FRA"}, {"pue": 1.2, "zone": "POL"}]
    write_ledger(
        tmp_path / "ledger.db",
        *(Recorded(name=f"r{n}", number=n, facility=place) for n, place in enumerate(where)),
    )
    shown = command("compare", "r0", "r1", "--format", "json").json["measures"]
    factors = {m["name"]: (m["a"], m["b"]) for m in shown if m["name"] in ("PUE", "intensity")}
    assert list(factors) == ["intensity"]
    assert factors["intensity"][0] == 0.04144 < factors["intensity"][1]
    alike = command("compare", "r0", "r1", "--zone", "FRA").out
    assert "intensity " not in alike.partition("•")[0]


def test_project_to_tokens(command: Command, ledger: Path) -> None:
    answer = command("project", "first", "--tokens", "2G", "--format", "json").json
    tokens_per_s = 1024 / 180
    projected = answer["projected"]
    assert answer["steady_state"]["tokens_per_s"] == pytest.approx(tokens_per_s)
    assert projected["gpu_hours"] == pytest.approx(2e9 / tokens_per_s / 3600 * 8)
    assert projected["days"] == pytest.approx(2e9 / tokens_per_s / 86400)
    assert projected["energy_kwh"] == pytest.approx(projected["gpu_hours"] * 0.36)
    assert answer["low"]["tco2e"] <= projected["tco2e"] <= answer["high"]["tco2e"]
    assert answer["published"] is None


def test_project_to_steps_and_to_what_was_planned(command: Command, ledger: Path) -> None:
    by_steps = command("project", "first", "--steps", "400", "--format", "json").json
    assert by_steps["tokens"] == 400 * 1024
    planned = command("project", "first", "--format", "json").json
    assert planned["tokens"] == 1_000_000


def test_project_to_another_model_by_flops_beside_the_published_figure(
    command: Command, ledger: Path
) -> None:
    answer = command("project", "first", "--model", "llama2-70b", "--format", "json").json
    assert answer["flops_ratio"] == pytest.approx(1000.0)
    assert (answer["tokens"], answer["published"]["gpu_hours"]) == (2e12, 1_720_320)
    assert answer["published"]["tco2e"] == 291.42
    text = command("project", "first", "--model", "llama2-70b").out
    assert "extrapolated" in text
    assert "291.42 t" in text, "as it was printed"


def test_project_shows_the_published_figure_of_the_model_that_the_card_names(
    command: Command, tmp_path: Path
) -> None:
    card = {"name": "llama2-7b", "planned_tokens": 2e12}
    write_ledger(tmp_path / "ledger.db", Recorded(name="own", model=card, steps=40))
    for asked in ((), ("--tokens", "1T"), ("--steps", "400")):
        answer = command("project", "own", *asked, "--format", "json").json
        assert answer["flops_ratio"] == 1.0
        assert answer["published"]["model"] == "Llama 2 7B"
        assert (answer["published"]["gpu_hours"], answer["published"]["tokens"]) == (184_320, 2e12)
    assert "31.22 t" in command("project", "own").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explain", "nobody"], "carbontrack runs"),
        (["explain", "--method", "guess"], "measured"),
        (["compare", "first"], "give another"),
        (["project", "first", "--tokens", "many"], "2T"),
        (["project", "first", "--model", "gpt-9"], "Llama 2 7B"),
        (["project", "cpu"], "--tokens 2T"),
        (["project", "cpu", "--model", "llama2-7b"], "describe_model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(
    command: Command, ledger: Path, arguments: list[str], says: str
) -> None:
    done = command(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert says in done.err


def test_a_run_without_steps_cannot_be_projected(command: Command, tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.db", Recorded(name="bare", steps=0))
    done = command("project", "bare", "--tokens", "2T")
    assert done.code == 2
    assert "bare has 0 timed steps with tokens" in done.err


def test_config_shows_values_with_their_origin(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("carbontrack.toml").write_text("zone = 'FRA'\ntariff = 0.2\ncurrency = 'EUR'\n")
    monkeypatch.setenv("CARBONTRACK_PUE", "1.25")
    settings = {s["name"]: s for s in command("config", "--format", "json").json["settings"]}
    assert (settings["pue"]["value"], settings["pue"]["origin"]) == (1.25, "environment")
    assert settings["zone"]["origin"].endswith("carbontrack.toml")
    assert settings["intensity"]["origin"].startswith("follows: France")
    assert settings["gpu_price"]["value"] is None
    assert "carbontrack.toml" in command("config").out
    Path("carbontrack.toml").write_text("zone = 'FRB'\nprovider = 'aws'\n")
    told = command("config", "--format", "json").json
    settings = {s["name"]: s for s in told["settings"]}
    assert settings["zone"]["value"] == "FRB"
    assert "factors search FRB" in " ".join(told["notes"])
    assert settings["intensity"]["value"] is None
    Path("carbontrack.toml").write_text("zone = 'FRA'\npux = 1\n")
    done = command("config")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "Did you mean pue?" in done.err


def test_config_shows_a_zone_that_is_not_known_with_its_trouble(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "carbontrack.toml").write_text("zone = 'Germny'\nprovider = 'megacloud'\nwue = 1")
    answer = command("config", "--format", "json").json
    values = {s["name"]: s["value"] for s in answer["settings"]}
    assert (values["zone"], values["provider"], values["wue"]) == ("Germny", "megacloud", 1)
    assert (values["intensity"], values["pue"]) == (None, None), "the world's would be a guess"
    assert any("zone 'Germny' is unknown." in note and "DEU" in note for note in answer["notes"])
    assert "provider 'megacloud' is unknown." in command("config").out
    (tmp_path / "carbontrack.toml").write_text("factors_as_of = 2020-01-01")
    assert "known on 2020-01-01" in command("config").out
