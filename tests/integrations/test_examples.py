"""The examples of docs/examples run, with the real frameworks, and are recorded as they say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.wrap import PATIENCE_S, Wrapper

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
# Runs a script that may reach no other machine.
OFFLINE = """
import runpy, socket, sys
def refuse(self, address):
    if self.family != socket.AF_UNIX: raise AssertionError(f"network: {address}")
    return connect(self, address)
connect, socket.socket.connect = socket.socket.connect, refuse
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def example(name: str) -> str:
    return str(EXAMPLES / name)


def ran(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    return str(done.stderr)


def phases(run: dict[str, Any]) -> set[str]:
    return {phase["name"] for phase in run["phases"]} - {"data"}  # where a loader was slow


def kinds(run: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in run["events"] if event["kind"] != "phase"]


def test_hugging_faces_trainer_wrapped_and_offline(wrapper: Wrapper, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (sys.executable, "-c", OFFLINE, example("hf_trainer.py"), str(out))
    err = ran(wrapper.run(*command, options=("--quiet", "--name", "wrapped")))
    assert "carbontrack" not in err
    (run,) = wrapper.json("runs")["runs"]
    shown = wrapper.json("show", run["id"])
    assert (shown["name"], shown["steps"], shown["tokens"]) == ("wrapped", 4, 4 * 2 * 32)
    assert shown["model"] == {"name": "LlamaForCausalLM", "parameters": 14_432}
    assert phases(shown) == {"train", "eval", "checkpoint", "other"}
    assert kinds(shown) == ["eval", "eval", "checkpoint", "tokens"]
    assert 3 < shown["final_loss"] < 5
    card = (out / "README.md").read_text()
    assert "source: carbontrack (simulated)" in card
    assert "geographical_location: Paris" in card


def test_hugging_faces_trainer_of_two_processes_without_a_wrapper(
    wrapper: Wrapper, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    out = tmp_path / "out"
    err = ran(wrapper.python(*TORCHRUN[1:], example("hf_trainer.py"), str(out)))
    assert "carbontrack" not in err
    (run,) = wrapper.json("runs")["runs"]
    shown = wrapper.json("show", run["id"])
    assert (shown["name"], shown["status"], shown["project"]) == (
        "tiny-llama",
        "completed",
        "examples",
    )
    assert (shown["steps"], shown["tokens"]) == (4, 4 * 2 * 2 * 32)
    (row,) = wrapper.json("table", run["id"])["rows"]
    emissions = ModelCard.load(out / "README.md").data.to_dict()["co2_eq_emissions"]
    assert emissions["emissions"] == pytest.approx(row["tco2e"] * 1e6)
    assert emissions["training_type"] == "pre-training"


def test_trl(wrapper: Wrapper, tmp_path: Path) -> None:
    ran(wrapper.run(sys.executable, example("trl_sft.py"), str(tmp_path / "out")))
    shown = wrapper.json("show")
    assert shown["steps"] == 3
    assert shown["tokens"] == 3 * 2 * 7  # six words and the end, of two texts
    counted = "tokens are num_tokens of TRL: all ranks, attention mask"
    assert counted in [event["message"] for event in shown["events"]]


def test_lightning_of_two_processes_without_a_wrapper(wrapper: Wrapper, tmp_path: Path) -> None:
    err = ran(wrapper.python(example("lightning_fit.py"), str(tmp_path / "out"), "2"))
    assert err.count("carbontrack: tiny-lightning") == 1  # Lightning's level is INFO
    (run,) = wrapper.json("runs")["runs"]
    shown = wrapper.json("show", run["id"])
    assert (shown["name"], shown["status"]) == ("tiny-lightning", "completed")
    assert (shown["steps"], shown["tokens"]) == (4, 4 * 2 * 2 * 17)
    assert {"train", "eval"} <= phases(shown)
    assert kinds(shown) == ["eval", "checkpoint", "tokens"]


def test_plain_pytorch_under_torchrun(wrapper: Wrapper) -> None:
    ran(wrapper.run(*TORCHRUN, example("torchrun_plain.py")))
    (run,) = wrapper.json("runs")["runs"]
    shown = wrapper.json("show", run["id"])
    assert (shown["steps"], shown["tokens"]) == (5, 5 * 8 * 2)
    assert {"train"} <= phases(shown)


def test_a_notebook(wrapper: Wrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name, value in wrapper.env.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=PATIENCE_S, resources={"metadata": {"path": str(wrapper.folder)}}
    )
    client.execute()
    shown, figures, table = (cell.outputs[-1].data for cell in notebook.cells[-3:])
    assert "<table><caption>notebook</caption>" in shown["text/html"]
    assert figures["text/plain"].count(",") == 3
    assert "data" in table["text/html"]
    assert wrapper.json("show", "notebook")["status"] == "completed"
