"""What is given with `run`, or by the environment, is recorded with the run."""

from __future__ import annotations

import json
import os

import pytest

from carbontrack.ledger.url import ledger_url
from carbontrack.record import labels
from tests.fixtures.pictures import import_hours
from tests.fixtures.wrap import Wrapper, warnings_in


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (labels.project_of(None), labels.tags_of({})) == (None, {})
    monkeypatch.setenv("CARBONTRACK_PROJECT", "nlp")
    monkeypatch.setenv("CARBONTRACK_TAGS", " team=a, seed=1,,url=a=b ")
    assert (labels.project_of(None), labels.project_of("vision")) == ("nlp", "vision")
    assert labels.tags_of({"seed": "2"}) == {"team": "a", "seed": "2", "url": "a=b"}


def test_a_tag_of_the_environment_that_is_none_is_only_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARBONTRACK_TAGS", "team=a,nlp,=x")
    assert labels.tags_of({}) == {"team": "a"}
    assert "'nlp' is not KEY=VALUE and is left out" in capfd.readouterr().err


def test_the_facility_of_the_command_is_recorded(wrapper: Wrapper) -> None:
    place = ("--zone", "FRA", "--pue", "1.2", "--tariff", "0.2", "--currency", "EUR")
    done = wrapper.run("sleep", "1", options=(*place, "--name", "placed", "--tag", "a=b"))
    assert "PUE 1.2 × 0.04144 kg/kWh, France 2025" in done.stderr
    assert "0.2 EUR/kWh" in done.stderr
    shown = json.loads(wrapper.carbontrack("show", "placed", "--format", "json").stdout)
    assert shown["facility"] == {"zone": "FRA", "pue": 1.2, "tariff": 0.2, "currency": "EUR"}
    refused = wrapper.run("sleep", "1", options=("--pue", "0.2"))
    assert (refused.returncode, "--pue 0.2 is below 1" in refused.stderr) == (2, True)


def test_no_secret_of_a_run_is_in_the_ledger(wrapper: Wrapper) -> None:
    folder = wrapper.folder / "dir-password=S11"
    folder.mkdir()
    tags = ("--tag", "token=S11", "--tag", "tokenizer=llama", "--tag", "tokens=2T")
    options = ("-q", "--name", "HF_TOKEN=S11", "--project", "p,api_key=S11", *tags)
    words = ("--export=ALL,A_TOKEN=S11", 'wandb.login(key="S11")')
    done = wrapper.run("sh", "-c", "exit 3", *words, options=options, cwd=folder)
    assert done.returncode == 3, done.stderr
    shown = wrapper.json("show", "last")
    assert (shown["name"], shown["project"]) == ("HF_TOKEN=***", "p,api_key=***")
    assert shown["tags"] == {"token": "***", "tokenizer": "llama", "tokens": "2T"}
    assert shown["cwd"] == f"{wrapper.folder}/dir-password=***"
    assert shown["command"][-2:] == ["--export=ALL,A_TOKEN=***", 'wandb.login(key="***")']
    assert_nowhere(wrapper, "S11")


def test_no_secret_of_a_block_is_in_the_ledger(wrapper: Wrapper) -> None:
    script = wrapper.folder / "block.py"
    script.write_text(
        "import carbontrack\n"
        "with carbontrack.track('token=S11', meter='sim:a100x1', tags={'pass': 'S11'}): pass\n"
    )
    done = wrapper.python(str(script), "--set=auth.password=S11", "--hf-tokens", "S11", "S11")
    assert done.returncode == 0, done.stderr
    shown = wrapper.json("show", "last")
    assert (shown["name"], shown["tags"]) == ("token=***", {"pass": "***"})
    assert shown["command"][2:] == ["--set=auth.password=***", "--hf-tokens", "***", "***"]
    assert_nowhere(wrapper, "S11")


def assert_nowhere(wrapper: Wrapper, secret: str) -> None:
    for file in wrapper.folder.glob(f"{wrapper.ledger.name}*"):
        assert secret.encode() not in file.read_bytes()


def test_a_zone_that_nobody_knows_is_said_at_once_to_the_quiet_too(wrapper: Wrapper) -> None:
    job = wrapper.hold(options=("-q", "--zone", "GERMNY"))
    job.until_said("zone 'GERMNY' is unknown")
    (said,) = warnings_in(job.end().stderr)
    assert "until 'carbontrack amend' corrects it. Did you mean DEU?" in said
    import_hours(ledger_url(str(wrapper.ledger)), "our-solar-roof", 0, [0.01])
    done = wrapper.run("sleep", "1", options=("-q", "--zone", "our-solar-roof"))
    assert (done.returncode, warnings_in(done.stderr)) == (0, [])


def test_a_zone_is_looked_for_in_no_ledger_that_is_a_pipe(wrapper: Wrapper) -> None:
    pipe = wrapper.folder / "pipe.db"
    os.mkfifo(pipe)
    options = ("-q", "--zone", "GERMNY", "--db", str(pipe))
    done = wrapper.run("sh", "-c", "exit 5", options=options)
    assert done.returncode == 5
    assert "zone 'GERMNY' is unknown" in done.stderr
