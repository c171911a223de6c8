"""The layers point one way, and what must stay light imports nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import carbontrack
from carbontrack.record.this_run import TELLING

ROOT = Path(__file__).parents[1]
HEAVY = {"sqlalchemy", "alembic", "pandas", "matplotlib", "torch", "numpy", "rich"}

# From low to high: a layer may import those before it, never those after it or beside it (but for
# the lowest, which are single files).
ORDER = [
    [
        "decimals",
        "encoding",
        "errors",
        "files",
        "folders",
        "garbage",
        "ids",
        "listening",
        "redact",
        "search_path",
        "secret_names",
        "serving",
        "units",
        "value_ends",
        "version",
        "vocabulary",
        "keys",
        "config",
        "quotas",
        "job",
        "job_phases",
    ],
    ["meters", "ledger"],
    ["factors"],
    ["account"],
    ["query"],
    ["report"],
    ["importers"],
    ["record"],
    ["collect", "integrations"],
    ["cli"],
]


def modules(folder: str) -> Iterator[Path]:
    yield from (ROOT / folder).rglob("*.py")


@cache
def imported(path: Path, *, top_level_only: bool = False) -> frozenset[str]:
    """Absolute names that a module imports; at its top level, or anywhere."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: import by the full name, so that the layers can be read")
    return frozenset(names)


def uses(names: Collection[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in names)


def test_carbontrack_never_imports_llama_train() -> None:
    assert [p for p in modules("carbontrack") if uses(imported(p), "llama_train")] == []


def test_only_the_commands_reach_the_dashboards_and_only_lazily() -> None:
    for path in modules("carbontrack"):
        if uses(imported(path), "dashboards"):
            assert path.parent.name == "cli", path
            assert not uses(imported(path, top_level_only=True), "dashboards"), path


def test_llama_train_uses_only_the_public_names() -> None:
    public = {"carbontrack", *(f"carbontrack.{name}" for name in carbontrack.__all__)}
    for path in modules("llama_train"):
        assert {name for name in imported(path) if uses({name}, "carbontrack")} <= public, path


def test_no_layer_reaches_a_higher_one_through_the_public_names() -> None:
    """They are of several layers: `from carbontrack import Ledger` would hide which."""
    public = {f"carbontrack.{name}" for name in carbontrack.__all__}
    for path in [*modules("carbontrack"), *modules("dashboards")]:
        if path != ROOT / "carbontrack" / "__init__.py":
            assert imported(path) & {"carbontrack", *public} == set(), path


def test_the_dashboards_stand_below_the_commands() -> None:
    for path in modules("dashboards"):
        for above in ("cli", "collect", "integrations"):
            assert not uses(imported(path), f"carbontrack.{above}"), path


@pytest.mark.parametrize("package", ["carbontrack", "dashboards", "llama_train"])
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Lazy imports count too: a circle is no less one for being closed inside a function."""
    files = {module_name(path): path for path in modules(package)}
    graph = {
        name: {used for used in map(module_of(files), imported(path)) if used not in (None, name)}
        for name, path in files.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(files)  # raises CycleError


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_of(files: Mapping[str, Path]) -> Callable[[str], str | None]:
    """Which of these modules an imported name is, or is in."""
    return lambda name: next((n for n in (name, name.rpartition(".")[0]) if n in files), None)


def test_a_module_that_lists_its_names_lists_all_of_them() -> None:
    for path in modules("carbontrack"):
        if "__all__ = " in path.read_text():
            module = import_module(module_name(path))
            own = {
                name
                for name, value in vars(module).items()
                if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
            }
            assert own <= set(module.__all__), path


LAYERS = [layer for level in ORDER for layer in level]


def inner_modules() -> list[Path]:
    """Those in folders, packages or not."""
    return [path for path in modules("carbontrack") if path.parent.name != "carbontrack"]


def test_every_folder_says_in_a_sentence_what_it_does_and_every_file_what_is_in_it() -> None:
    for package in ("carbontrack", "dashboards", "llama_train"):
        for path in modules(package):
            assert (path.parent / "__init__.py").exists() or "versions" in path.parts, path
            first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            assert len(first) > 10 or path.stat().st_size == 0, path


def test_every_file_and_folder_has_its_layer() -> None:
    rooms = {path.stem for path in (ROOT / "carbontrack").glob("*.py")}
    rooms |= {path.relative_to(ROOT / "carbontrack").parts[0] for path in inner_modules()}
    assert rooms - {"__init__", "__main__"} <= set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_point_one_way(layer: str) -> None:
    level = next(number for number, names in enumerate(ORDER) if layer in names)
    beside = [name for name in ORDER[level] if name != layer] if level else []
    above = [name for names in ORDER[level + 1 :] for name in names] + beside
    for path in [*modules(f"carbontrack/{layer}"), ROOT / "carbontrack" / f"{layer}.py"]:
        if path.exists():
            wrong = [name for name in above if uses(imported(path), f"carbontrack.{name}")]
            assert wrong == [], path


@pytest.mark.parametrize(
    "module",
    [
        "carbontrack",
        "carbontrack.cli.app",
        "carbontrack.record.launch",
        "carbontrack.record.recorder",
        "carbontrack.record.reduce",
        "carbontrack.ledger.window",
        "carbontrack.account.estimate",
        "carbontrack.report.summary",
    ],
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{m.split('.')[0] for m in sys.modules}} & {HEAVY!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-q", "--name=x", "--tag", "a=b", "--tag", "c=d", "--project", "p", "--hz", "5"],
        ["--meter", "nvml,rapl", "--db", "x.db", "--budget-kwh", "3", "--quiet"],
    ],
)
def test_the_job_waits_for_nothing_but_what_starts_it(options: list[str], tmp_path: Path) -> None:
    """The parser takes 100 ms to import, patterns and tables of fields some ms each."""
    later = {
        *("typer", "typing", "dataclasses", "enum", "re", "json", "pathlib", "inspect"),
        *("subprocess", "socket", "shutil", "signal", "importlib.metadata"),
        *("carbontrack.job", "carbontrack.vocabulary", "carbontrack.record.recorder_process"),
    }
    code = (
        "import os, sys; before = set(sys.modules)\n"
        "def spawn(*_, **__): print(*set(sys.modules) - before); sys.stdout.flush(); os._exit(0)\n"
        "os.posix_spawnp = spawn\n"
        f"sys.argv = ['carbontrack', 'run', *{options}, '--', 'true']\n"
        "from carbontrack.__main__ import main; main()"
    )
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    environ = {name: value for name, value in environ.items() if name not in TELLING}
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    loaded = set(done.stdout.split())
    assert "carbontrack.record.launch" in loaded
    assert loaded & later == set()


def test_the_summary_of_a_short_job_waits_for_little() -> None:
    """What the recorder of a job that ends at once imports: to make a class of rows takes 0.3 ms,
    to load a module as long.
    """
    of_others = {"statistics", "difflib", "socket", "tomllib", "zlib", "sqlalchemy"}
    of_ours = {
        *("ledger.rows", "ledger.tables", "ledger.journal", "ledger.kept_overlaps"),
        *("ledger.backlog", "ledger.batch", "ledger.outcome", "ledger.packed", "ledger.joined"),
        *("account.over_time", "account.budget", "factors.series", "meters.observe", "encoding"),
        *("record.lasting", "record.guest", "record.rendezvous", "record.recorder_process"),
        *("record.steps_log", "record.step_lines", "record.ship", "importers.training_logs"),
    }
    assert all(find_spec(f"carbontrack.{name}") for name in of_ours)
    code = (
        "import dataclasses, sys; before, made = set(sys.modules), []\n"
        "make = dataclasses.dataclass\n"
        "def count(*a, **k): made.append(1); return make(*a, **k)\n"
        "dataclasses.dataclass = count\n"
        "import carbontrack.record.recorder, carbontrack.report.summary, carbontrack.meters.nvml\n"
        "print(len(made), *set(sys.modules) - before)"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    classes, *found = done.stdout.split()
    assert set(found) & {*of_others, *(f"carbontrack.{name}" for name in of_ours)} == set()
    assert sum(name.startswith("carbontrack.") for name in found) <= 100
    assert int(classes) <= 46


@pytest.mark.parametrize("folder", ["account", "meters"])
def test_no_file_of_a_light_folder_imports_a_database_or_pandas(folder: str) -> None:
    for path in modules(f"carbontrack/{folder}"):
        for package in HEAVY:
            assert not uses(imported(path), package), path


def test_only_one_module_imports_pynvml() -> None:
    users = [p.name for p in modules("carbontrack") if uses(imported(p), "pynvml")]
    assert users == ["library.py"]


def test_sql_lives_in_the_ledger_folder_only() -> None:
    for folder in ("carbontrack", "dashboards"):
        for path in modules(folder):
            if "ledger" not in path.parts:
                names = imported(path) - {"sqlalchemy.Connection"}  # to hand one on
                assert not uses(names, "sqlalchemy"), path
