"""The examples of docs/examples run, with the real frameworks, and are recorded as they say.

The frameworks take seconds to import, so one process, or one pair, runs several examples.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.wrap import PATIENCE_S, Wrapper, kinds, wait_until, warnings_in

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
# On CPUs alone accelerate's own choice is one process; the examples take no GPU where none is.
ACCELERATE = (
    *("-P", "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
    *("--main_process_port", str(free_port())),
)
# Runs examples, each with a folder of its name; "--" between them hides the wrapper from the rest.
EXAMPLES_IN_A_PROCESS = """
import os, runpy, sys
from pathlib import Path
from carbontrack.job import close_steps
folder, *examples = sys.argv[1:]
for example in examples:
    if example == "--":
        close_steps()
        del os.environ["CARBONTRACK_RECORDING"], os.environ["CARBONTRACK_STEPS"]
        continue
    sys.argv = [example, str(Path(folder) / Path(example).stem)]
    runpy.run_path(example, run_name="__main__")
"""
OFFLINE = """
import socket
def refuse(self, address):
    if self.family != socket.AF_UNIX: raise AssertionError(f"network: {address}")
    return connect(self, address)
connect, socket.socket.connect = socket.socket.connect, refuse
"""


def test_an_example_that_takes_a_folder_says_so_in_its_command() -> None:
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert ("sys.argv[1]" in text) == (f"{path.name} OUT" in text.partition("\n")[0]), path.name


def example(name: str) -> str:
    return str(EXAMPLES / name)


def ran(done: Any) -> list[str]:
    """What carbontrack said on stderr."""
    assert done.returncode == 0, done.stderr
    return warnings_in(done.stderr)


def ended(wrapper: Wrapper, run: str) -> dict[str, Any]:
    """The run, once its recorder has written all."""

    def shown() -> dict[str, Any] | None:
        found: dict[str, Any] = wrapper.json("show", run)
        return None if found["status"] == "running" else found

    found: dict[str, Any] = wait_until(shown)
    return found


def phases(run: dict[str, Any]) -> set[str]:
    named = {e["data"].get("name") for e in run["events"] if e["kind"] == "phase"}
    return named - {None, "data"}  # data: where a loader was slow


def messages(run: dict[str, Any]) -> list[str]:
    return [event["message"] for event in run["events"] if event["kind"] == "tokens"]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Wrapper:
    """Three trainings of one process that may reach no other machine: the first is wrapped."""
    wrapper = Wrapper(tmp_path_factory.mktemp("one"))
    scripts = ("hf_trainer.py", "--", "lightning_fit.py", "trl_sft.py")
    names = [name if name == "--" else example(name) for name in scripts]
    script = (sys.executable, "-c", OFFLINE + EXAMPLES_IN_A_PROCESS, str(wrapper.folder), *names)
    said = ran(wrapper.run(*script, options=("--quiet", "--name", "wrapped")))
    assert [line.split(",")[0] for line in said] == ["carbontrack: tiny-lightning"]
    return wrapper


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Wrapper:
    """Three trainings of two processes under `accelerate launch`, without a wrapper."""
    wrapper = Wrapper(tmp_path_factory.mktemp("two"))
    script = wrapper.folder / "examples.py"
    script.write_text(EXAMPLES_IN_A_PROCESS)
    names = [example(f"{name}.py") for name in ("hf_trainer", "trl_sft", "accelerate_loop")]
    assert ran(wrapper.python(*ACCELERATE, str(script), str(wrapper.folder), *names)) == []
    return wrapper


def test_hugging_faces_trainer_wrapped_and_offline(one: Wrapper) -> None:
    shown = ended(one, "wrapped")
    assert (shown["steps"], shown["tokens"]) == (4, 4 * 2 * 32)
    assert shown["model"] == {"name": "LlamaForCausalLM", "parameters": 14_432}
    assert phases(shown) == {"train", "eval", "checkpoint"}
    assert kinds(shown) == ["eval", "eval", "checkpoint", "tokens"]
    assert 3 < shown["final_loss"] < 5


def test_lightning_of_a_process(one: Wrapper) -> None:
    shown = ended(one, "tiny-lightning")
    assert (shown["status"], shown["steps"], shown["tokens"]) == ("completed", 8, 8 * 2 * 17)
    assert phases(shown) == {"train", "eval", "checkpoint"}
    assert kinds(shown) == ["eval", "checkpoint", "tokens"]


@pytest.mark.parametrize(("found", "processes"), [("one", 1), ("two", 2)])
def test_trl(found: str, processes: int, request: pytest.FixtureRequest) -> None:
    shown = ended(request.getfixturevalue(found), "tiny-sft")
    assert (shown["status"], shown["steps"]) == ("completed", 3)
    assert shown["tokens"] == 3 * 2 * 7 * processes  # six words and the end, of two texts
    assert messages(shown) == ["tokens are num_tokens of TRL: all ranks, attention mask"]
    assert phases(shown) == {"train"}


def test_hugging_faces_trainer_under_accelerate_launch(two: Wrapper) -> None:
    from huggingface_hub import ModelCard

    names = ["tiny-accelerate", "tiny-llama", "tiny-sft"]  # one run each, of both processes
    assert sorted(run["name"] for run in two.json("runs")["runs"]) == names
    shown = ended(two, "tiny-llama")
    assert (shown["status"], shown["project"]) == ("completed", "examples")
    assert (shown["steps"], shown["tokens"]) == (4, 4 * 2 * 2 * 32)
    assert phases(shown) == {"train", "eval", "checkpoint"}
    (row,) = two.json("table", "tiny-llama")["rows"]
    card = ModelCard.load(two.folder / "hf_trainer" / "README.md")
    emissions = card.data.to_dict()["co2_eq_emissions"]
    # What the recorder had committed when the card was written: it may have been late.
    assert 0 < emissions.pop("emissions") <= row["tco2e"] * 1e6 * (1 + 1e-9)
    assert emissions == {
        "source": f"carbontrack ({row['quality']})",
        "training_type": "pre-training",
        "geographical_location": "Paris",
        "hardware_used": f"{row['devices']} × {row['device_name']}",
    }


def test_a_loop_with_accelerate_of_two_processes(two: Wrapper) -> None:
    shown = ended(two, "tiny-accelerate")
    assert (shown["status"], shown["steps"]) == ("completed", 4)
    assert shown["tokens"] == 4 * 2 * 2 * 16
    assert shown["model"]["name"] == "tiny-embedding"
    assert 3 < shown["final_loss"] < 5
    assert phases(shown) == {"train", "eval", "checkpoint"}
    assert kinds(shown) == ["eval", "tokens"]


def test_lightning_of_two_processes_wrapped(wrapper: Wrapper, tmp_path: Path) -> None:
    script = (sys.executable, example("lightning_fit.py"), str(tmp_path / "out"), "2")
    wrapper.environ = {"STANDALONE_PORT": str(free_port())}
    said = ran(wrapper.run(*script))  # Lightning's level is INFO
    assert [line.split(" (")[0] for line in said] == ["carbontrack: tiny-lightning"]
    (run,) = wrapper.json("runs")["runs"]
    shown = ended(wrapper, run["id"])
    assert shown["status"] == "completed"
    assert (shown["steps"], shown["tokens"]) == (4, 4 * 2 * 2 * 17)
    assert phases(shown) == {"train", "eval", "checkpoint"}
    assert kinds(shown) == ["eval", "checkpoint", "tokens"]


def test_plain_pytorch_under_torchrun(wrapper: Wrapper) -> None:
    ran(wrapper.run(*TORCHRUN, example("torchrun_plain.py")))
    (run,) = wrapper.json("runs")["runs"]
    shown = ended(wrapper, run["id"])
    assert (shown["steps"], shown["tokens"]) == (5, 5 * 8 * 2)
    assert phases(shown) == {"train"}


def test_a_notebook(wrapper: Wrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    for name, value in wrapper.env.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    config = Config()
    config.KernelManager.transport = "ipc"  # a port may be another's before the kernel has it
    config.KernelManager.connection_file = str(wrapper.folder / "kernel.json")
    client = NotebookClient(
        notebook,
        config=config,
        timeout=PATIENCE_S,
        startup_timeout=int(PATIENCE_S),
        iopub_timeout=int(PATIENCE_S),
        resources={"metadata": {"path": str(wrapper.folder)}},
    )
    client.execute()
    shown, figures, table = (cell.outputs[-1].data for cell in notebook.cells[-3:])
    assert "<table><caption>notebook</caption>" in shown["text/html"]
    assert figures["text/plain"].count(",") == 3
    assert "data" in table["text/html"]
    assert ended(wrapper, "notebook")["status"] == "completed"
