"""`carbontrack doctor`: what is found, and the fix for what is missing."""

from __future__ import annotations

import json
import shlex
import sqlite3
from contextlib import closing
from typing import Any

from carbontrack.ledger import set_aside
from carbontrack.ledger.url import ledger_url
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import Wrapper
from tests.ledger.test_recover import Recorder


def findings(wrapper: Wrapper, *options: str) -> tuple[int, list[dict[str, Any]]]:
    done = wrapper.carbontrack("doctor", "--format", "json", *options)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["findings"]


def test_gpus_are_named_with_how_well_they_are_measured(
    wrapper: Wrapper, nvml_stub: NvmlStub
) -> None:
    node = nvml_stub.start(2, "a100")
    wrapper.environ = node.env
    code, found = findings(wrapper)
    devices = [f["what"] for f in found if f["area"] == "devices"]
    assert (code, len(devices)) == (0, 2)
    for uuid, what in zip(node.uuids, devices, strict=True):
        assert uuid in what
        assert "counter by total_energy+power_instant, scope gpu" in what
        assert "W now, refreshed every" in what


def test_a_variable_of_another_machine_loses_no_steps(wrapper: Wrapper) -> None:
    """srun hands on the login node's XDG_RUNTIME_DIR; the recorder takes the next folder."""
    wrapper.environ = {"XDG_RUNTIME_DIR": "/run/user/of-another-machine"}
    code, found = findings(wrapper)
    (steps,) = (f for f in found if f["area"] == "steps")
    assert (code, steps["verdict"]) == (0, "ok")
    assert "of-another-machine" not in steps["what"]


def test_a_driver_that_refuses_is_said_with_its_fix(wrapper: Wrapper, nvml_stub: NvmlStub) -> None:
    wrapper.environ = nvml_stub.start(2, init_error=4).env
    _, found = findings(wrapper)
    (line,) = (f["what"] for f in found if f["what"].startswith("not nvml"))
    assert "/dev/nvidiactl" in line


def test_a_new_ledger_is_no_problem_and_an_old_one_is(wrapper: Wrapper) -> None:
    code, found = findings(wrapper)
    assert (code, [f["verdict"] for f in found if f["area"] == "ledger"]) == (0, ["note"])
    wrapper.run("true")
    code, found = findings(wrapper)
    (ledger,) = (f for f in found if f["area"] == "ledger")
    assert (code, ledger["verdict"]) == (0, "ok")
    assert " answers: 1 run, " in ledger["what"]
    with sqlite3.connect(wrapper.ledger) as connection:
        connection.execute("update alembic_version set version_num = '1000'")
    connection.close()
    code, found = findings(wrapper)
    (ledger,) = (f for f in found if f["area"] == "ledger")
    assert (code, ledger["verdict"], ledger["fix"]) == (1, "problem", "carbontrack db upgrade")


def test_a_journal_that_waits_is_a_problem(wrapper: Wrapper) -> None:
    Recorder(ledger_url(str(wrapper.ledger))).spill(0, 10)
    code, found = findings(wrapper)
    (problem,) = (f for f in found if f["verdict"] == "problem")
    assert (code, problem["what"]) == (1, "1 journal not in the ledger yet")
    assert problem["fix"] == "carbontrack db recover"


def test_a_fix_is_of_the_ledger_that_was_named(wrapper: Wrapper) -> None:
    other = write_ledger(wrapper.folder / "other's.db", Recorded(count=2))
    url = ledger_url(str(other))
    Recorder(url).spill(0, 10)
    set_aside.put(url, "01", "https://collector", "too old")
    with closing(sqlite3.connect(other)) as ledger, ledger:
        ledger.execute("update alembic_version set version_num = '1000'")
    done = wrapper.ask("doctor", "--format", "json", "--db", str(other))
    found = json.loads(done.stdout)["findings"]
    names = f" --db {shlex.quote(str(other))}"
    assert [one["fix"] for one in found if one["verdict"] == "problem"] == [
        f"carbontrack db upgrade{names}",
        f"carbontrack db recover{names}",
        f"When that is set right: carbontrack db ship --retry{names}",
    ]


def test_a_server_that_does_not_answer_is_a_problem(wrapper: Wrapper) -> None:
    code, found = findings(wrapper, "--db", "postgresql://127.0.0.1:1/none")
    (ledger,) = (f for f in found if f["area"] == "ledger")
    assert (code, ledger["verdict"]) == (1, "problem")
    assert ledger["fix"]


def test_the_report_for_people_ends_with_a_verdict(wrapper: Wrapper) -> None:
    done = wrapper.carbontrack("doctor")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "Ready to record."
