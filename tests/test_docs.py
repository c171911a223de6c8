"""The documents name every command, option, variable, setting, JSON key and table column."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from carbontrack import Ledger, config
from carbontrack.account import published
from carbontrack.ledger.tables import TABLES, Table
from carbontrack.ledger.url import ledger_url
from dashboards.live.app import create_app
from dashboards.live.view import View
from tests.dashboards.live.conftest import Server
from tests.fixtures import pictures, reference
from tests.fixtures.command import Command
from tests.fixtures.nvml import NvmlStub
from tests.fixtures.runs import Recorded, write_ledger
from tests.fixtures.wrap import CARBONTRACK, Wrapper, wait_until

ROOT = Path(__file__).parents[1]
JSON_PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
# Of these the values are the user's own: tags, settings, names of devices.
_FREE = {"tags", "group", "facility", "model", "settings", "gpu_hours_of", "data", "extra"}
_ON_A_SERVER = (
    "doctor",
    *("db status", "db upgrade", "db merge", "db compact", "db retain", "db verify", "db export"),
)
_WITH_A_FILE = ("import", "factors import")
_AS_A_PROCESS = ("run", "attach", "watch", "serve", "devices", "collect --listen", "db ship")
_FROM_THE_NETWORK = ("factors fetch",)  # only parsed
_PREPARED = (*_ON_A_SERVER, *_WITH_A_FILE, *_AS_A_PROCESS, *_FROM_THE_NETWORK)
JSON_OF = (
    "runs",
    "show last",
    "table --embodied --method report,measured --by project",
    "table --published llama2",
    "explain last",
    "compare small large",
    "project last --tokens 1B",
    "project last --model llama2-70b",
    "estimate --gpu-hours 1 --power 400",
    "scores llama2-7b",
    "config",
    "quota",
    "devices",
    "doctor",
    "factors list pue",
    "factors list price",
    "factors search france",
    "factors show H200",
    "db status",
    "collect token list",
    "db verify",
)
"""Commands whose JSON keys are held to docs/json.md."""
ELSEWHERE = {"factors import intensity", "factors import prices", "factors fetch intensity"}
"""They take a file or the network. The keys of an import are held below; a fetch has the same."""


@pytest.fixture
def recorded(command: Command, tmp_path: Path) -> Command:
    """`carbontrack` on a ledger with the runs that the examples name."""
    names = ("llama2-baseline", "llama2-muon", "small", "large", "llama2-7b")
    card = {"name": "llama2-7b", "parameters": 7e9, "planned_tokens": 2e12}
    for number, name in enumerate(names, start=1):
        one = Recorded(name=name, number=number, count=2, seconds=60, project="nlp", model=card)
        events = [pictures.score(one, 0.3)]
        pictures.write_seconds(ledger_url(str(tmp_path / "ledger.db")), one, events=events)
    (tmp_path / "carbontrack.toml").write_text("[quota.nlp]\nkwh = 10\n")
    return command


def examples() -> Iterator[tuple[str, Any]]:
    for _, command in reference.commands():
        said = " ".join((command.help or "").split())
        if (found := re.search(r"Example: carbontrack (.*)$", said)) is not None:
            yield found[1], command


def test_the_reference_of_commands_is_up_to_date() -> None:
    assert reference.FILE.read_text(encoding="utf-8") == reference.text(), "run: make docs"


def test_every_command_has_help_and_every_option_says_what_it_does() -> None:
    for path, command in reference.commands():
        assert command.help, path
        for names, said in reference.options(command):
            assert said, f"{path} {names}"


def test_a_terminal_shows_all_words_of_the_help(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[words] in it would be taken for a style."""
    monkeypatch.setenv("COLUMNS", "2000")
    for path, asked in reference.commands():
        shown = " ".join(command(*path.split()[1:], "--help").out.split())
        for words in (asked.help, *(said for _, said in reference.options(asked))):
            for paragraph in words.split("\n\n"):
                assert " ".join(paragraph.split()) in shown, path


def test_the_help_of_watch_names_what_a_node_has() -> None:
    said = dict(reference.options(dict(reference.commands())["carbontrack watch"]))
    (meters,) = (help for names, help in said.items() if names.startswith("--meter"))
    assert "cpu-model" not in meters and "CPU model" not in meters
    (name,) = (help for names, help in said.items() if names.startswith("--name"))
    assert "watch HOST" in name
    assert not [help for help in said.values() if re.search(r"\b(job|script)\b", help)]


def test_every_environment_variable_is_documented() -> None:
    page = reference.FILE.read_text(encoding="utf-8")
    for folder in ("carbontrack", "dashboards", "llama_train"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"\bCARBONTRACK_[A-Z_]*[A-Z]\b", path.read_text()):
                assert f"`{name}`" in page, f"{path.name}: {name}"


def of(commands: tuple[str, ...]) -> list[list[str]]:
    """The examples of these commands, in words."""
    return [
        shlex.split(line)
        for line, _ in examples()
        if any(f"{line} ".startswith(f"{name} ") for name in commands)
    ]


def test_the_examples_of_the_help_run(recorded: Command) -> None:
    prepared = of(_PREPARED)
    for words in (shlex.split(line) for line, _ in examples()):
        if words not in prepared:
            done = recorded(*words)
            assert done.code == 0, (words, done.err)


def test_the_examples_that_fetch_are_understood() -> None:
    for words in of(_FROM_THE_NETWORK):
        (command,) = (one for line, one in examples() if shlex.split(line) == words)
        command.make_context(words[0], words[3:])


def test_the_examples_of_a_server_run(command: Command, postgres_url: str, tmp_path: Path) -> None:
    for number, name in enumerate(("node1", "laptop"), start=1):
        write_ledger(tmp_path / f"{name}.db", Recorded(name=name, number=number, count=2))
    for words in sorted(of(_ON_A_SERVER), key=lambda words: "upgrade" not in words):
        at = words.index("--db") + 1
        assert words[at].startswith("postgresql://")
        done = command(*words[:at], postgres_url, *words[at + 1 :])
        assert done.code == 0, (words, done.out, done.err)


def test_the_examples_with_a_file_run(command: Command, tmp_path: Path) -> None:
    samples = [f"2026/01/01 00:00:{n:02}.000, GPU-1, 300.00 W" for n in range(60)]
    head = "timestamp, uuid, power.draw [W]"
    (tmp_path / "power.csv").write_text("\n".join([head, *samples, ""]))
    hours = [f"2026-01-01T{hour:02}:00Z,50" for hour in range(24)]
    (tmp_path / "grid.csv").write_text("\n".join(["when,carbon", *hours, ""]))
    for words in of(_WITH_A_FILE):
        done = command(*words)
        assert done.code == 0, (words, done.err)


def test_the_examples_that_start_or_need_a_process_run(
    wrapper: Wrapper, nvml_stub: NvmlStub, tmp_path: Path
) -> None:
    """On a node with two GPUs, where `torchrun` is a command that has nothing to do."""
    torchrun = tmp_path / "bin" / "torchrun"
    torchrun.parent.mkdir()
    torchrun.write_text("#!/bin/sh\n")
    torchrun.chmod(0o755)
    node = nvml_stub.start(2, "a100")
    wrapper.environ = {**node.env, "PATH": f"{torchrun.parent}:{os.environ['PATH']}"}
    attached, ran, listed = (of((name,)) for name in ("attach", "run", "devices"))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as job:
        watching = [
            subprocess.Popen(
                [*CARBONTRACK, *(str(job.pid) if word.isdigit() else word for word in words)],
                env=wrapper.env,
            )
            for words in attached
        ]
        wait_until(wrapper.seconds)  # it watches
        for words in ran + listed:
            done = wrapper.carbontrack(*words)
            assert done.returncode == 0, (words, done.stderr)
    assert [process.wait() for process in watching] == [0] * len(watching) == [0]
    for words in of(("serve",)):
        at = words.index("--port") + 1
        server = Server(wrapper, (*words[1 : at - 1], *words[at + 1 :])).start()
        assert server.address.endswith(f":{server.port}/")
        assert "Traceback" not in server.stop()


def test_the_examples_of_a_collector_run(wrapper: Wrapper, tmp_path: Path) -> None:
    """With a certificate of its own, which the node trusts; on a port that is free."""
    certificate = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "chain.pem"))
    subprocess.run([*certificate, *subject, *files], check=True, capture_output=True)
    team = ("--db", str(tmp_path / "team.db"))
    (starts,), (ships,) = of(("collect --listen",)), of(("db ship",))
    starts = [word if ":" not in word else "127.0.0.1:0" for word in starts]
    token = wrapper.ask("collect", "token", "add", "nlp", *team).stdout.split()[-1]
    with subprocess.Popen(
        [*CARBONTRACK, *starts, *team],
        env=wrapper.env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as collector:
        assert collector.stdout is not None
        address = collector.stdout.readline().strip()
        assert address.startswith("https://")
        wrapper.record()
        trusted = {"SSL_CERT_FILE": str(tmp_path / "chain.pem"), "CARBONTRACK_SHIP_TOKEN": token}
        ships = [word if "://" not in word else address for word in ships]
        shipped = subprocess.run(
            [*CARBONTRACK, *ships], env=wrapper.env | trusted, capture_output=True, text=True
        )
        collector.terminate()
    assert shipped.returncode == 0 and "Shipped" in shipped.stdout, shipped.stderr
    assert wrapper.json("show", "last", *team)["project"] == "nlp"


@pytest.mark.parametrize("asked", JSON_OF)
def test_every_json_key_is_documented(asked: str, recorded: Command) -> None:
    answer = recorded(*asked.split(), "--format", "json").json
    missing = {key for key in _keys(answer) if f"`{key}`" not in JSON_PAGE}
    assert missing == set(), f"document in docs/json.md what `{asked}` prints"


def test_every_json_key_of_an_import_is_documented(command: Command, tmp_path: Path) -> None:
    times = ("00:00Z", "01:00Z", "02:00Z", "05:00Z")  # a gap in between
    lines = ["when,carbon", *(f"2026-01-31T{time},50" for time in times)]
    (tmp_path / "grid.csv").write_text("\n".join(lines))
    (tmp_path / "prices.csv").write_text(
        "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\n"
        "p4de,A100-80GB,8,32,,us-east-1\n"
    )
    columns = ["--time-column", "when", "--value-column", "carbon", "--unit", "g/kWh"]
    for asked in (
        ["intensity", "grid.csv", *columns, "--zone", "FRA"],
        ["prices", "prices.csv"],
    ):
        answer = command("factors", "import", *asked, "--format", "json").json
        assert {key for key in _keys(answer) if f"`{key}`" not in JSON_PAGE} == set(), asked


def test_every_key_and_path_of_the_pages_api_is_documented(
    recorded: Command, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    known = {name for code in re.findall(r"`([^`]*)`", page + JSON_PAGE) for name in _names(code)}
    view = View(ledger_url(str(tmp_path / "ledger.db")), config.flags())
    paths = [
        route.path.replace("{id}", "RUN")
        for route in create_app(view).routes
        if isinstance(route, Route) and route.path.startswith("/api")
    ]
    try:
        run = view.find("last")
        answers = {
            "list": view.runs(),
            "totals": view.totals(by="project"),
            "fleet": view.fleet(),
            "run": view.run(run),
            "explain": view.explain(run, method="measured"),
            "series": view.series(run, from_ms=None, to_ms=None, points=300),
            "progress": view.progress(run, points=300),
        }
    finally:
        view.close()
    assert [path for path in paths if f"`{path}" not in page] == []
    for name, answer in answers.items():
        assert set(_keys(answer)) - known == set(), f"document in docs/dashboards.md: {name}"
    script = (ROOT / "dashboards" / "live" / "static" / "api.js").read_text(encoding="utf-8")
    heard = set(re.findall(r'source\.addEventListener\("(\w+)"', script)) - {"error"}
    (line,) = re.findall(r"^.*server-sent events.*$", page, re.MULTILINE)
    assert {"run"} < heard == heard & set(re.findall(r"`(\w+)`", line))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_nothing_follows_a_table_but_an_empty_line(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    after = [b for a, b in pairwise(lines) if a.startswith("| ") and not b.startswith("|")]
    assert not any(after)


def _names(code: str) -> list[str]:
    return re.findall(r"[a-z_]\w*", code)


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key == "totals":  # by method
                yield from (name for one in inner.values() for name in _keys(one))
            elif key not in _FREE or isinstance(inner, list):
                yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_of_the_ledger_is_documented(table: Table[Any]) -> None:
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    tables, columns = (
        page.partition(f"| table | {heads} |")[2].partition("\n\n")[0]
        for heads in ("key | what it holds", "columns")
    )
    assert f"`{table.name}`" in tables
    (line,) = re.findall(rf"^\| `{table.name}` \| (.*) \|$", columns, re.MULTILINE)
    serial = () if table.serial is None else (table.serial,)
    assert set(re.findall(r"`(\w+)`", line)) == {*table.columns, *table.computed, *serial}


def documented_columns(of: str) -> dict[str, list[str]]:
    """The JSON keys of each column for people, as docs/json.md has them."""
    table = JSON_PAGE.partition(f"| column of {of} | key |")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {row[0]: re.findall(r"`(\w+)`", row[1]) for row in cells}


def test_every_column_of_the_table_is_documented_with_its_key(
    recorded: Command, tmp_path: Path
) -> None:
    other = Recorded(name="elsewhere", number=9, facility={"pue": 1.2, "intensity": 0.1})
    pictures.write_seconds(ledger_url(str(tmp_path / "ledger.db")), replace(other, seconds=60))
    every = [
        "--embodied",
        "--lost",
        "--contract-intensity",
        "0.1",
        "--wue",
        "1",
        "--method",
        "report,measured",
    ]
    heads = recorded("table", *every, "--format", "markdown").out.splitlines()[0]
    shown = {_plain_head(head) for head in heads.strip("|").split("|")}
    columns = documented_columns("`table`, `estimate`")
    assert shown == columns.keys()
    (row, *_) = recorded("table", "--format", "json").json["rows"]
    assert {key for keys in columns.values() for key in keys} <= row.keys()


def _plain_head(head: str) -> str:
    """Without the unit of a scaled column, which its values choose."""
    name = " ".join(re.sub(r"[()]", " ", head).split())
    return re.sub(r"^(CO₂e|market|embodied|energy|facility|cost|tokens) \S+$", r"\1", name)


@pytest.mark.parametrize(("asked", "inner"), [("runs", "runs"), ("show last", "devices")])
def test_every_column_of_runs_and_show_is_documented_with_its_key(
    asked: str, inner: str, recorded: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    columns = documented_columns(f"`{asked.split()[0]}`")
    lines = recorded(*asked.split()).out.splitlines()
    heads = [re.split(r"\s{2,}", line.strip()) for line in lines]
    alike = [name for name in columns if name != "name"]  # of devices it stands above them, once
    assert list(columns) in heads or alike in heads, heads
    (item, *_) = recorded(*asked.split(), "--format", "json").json[inner]
    assert {key for keys in columns.values() for key in keys} <= item.keys()


def heads_of(text: str) -> list[str]:
    """The words above the first rule: heads of columns may take two lines."""
    return " ".join(re.split(r"^ ?─+$", text, maxsplit=1, flags=re.MULTILINE)[0].split()).split()


def test_every_column_of_factors_and_published_tables_is_documented(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    held = {
        "`factors`": (["factors", "list", "pue"], ["factors", "show", "H200"]),
        "`table --published list`": (["table", "--published", "list"],),
        "`table --published`": [["table", "--published", name] for name in published.names()],
    }
    for table, commands in held.items():
        documented = " ".join(documented_columns(table)).split()
        shown = [heads_of(command(*words).out) for words in commands]
        assert {word for heads in shown for word in heads} == set(documented), table


def lines_of(text: str) -> list[str]:
    """The names of the lines of a table, without the numbers in them."""
    body = re.split(r"^ ?─+$", text, maxsplit=1, flags=re.MULTILINE)[1].partition("\n\n")[0]
    names = [re.split(r"\s{2,}", line.strip())[0] for line in body.strip().splitlines()]
    return [re.sub(r"(?<=at |er |ss )[\d.,]+", "…", name) for name in names]


def test_every_line_of_compare_and_project_is_documented(
    recorded: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    other = Recorded(name="elsewhere", number=9, facility={"pue": 1.2, "intensity": 0.1})
    pictures.write_seconds(ledger_url(str(tmp_path / "ledger.db")), replace(other, seconds=60))
    every = ["--embodied", "--contract-intensity", "0.1"]
    for name, words in (
        ("compare", ["small", "elsewhere"]),
        ("project", ["small", "--tokens", "1B"]),
    ):
        rows = JSON_PAGE.partition(f"| line of `{name}` |")[2].partition("\n\n")[0]
        documented = [line.split(" | ")[0].strip("| ") for line in rows.splitlines()[2:]]
        assert lines_of(recorded(name, *words, *every).out) == documented


@pytest.mark.parametrize("call", ["runs", "table", "windows", "steps", "events", "amendments"])
def test_every_column_of_the_data_frames_is_documented(
    recorded: Command, tmp_path: Path, call: str
) -> None:
    ledger = Ledger(str(tmp_path / "ledger.db"))
    columns = set(getattr(ledger, call)().columns)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{call}\(.*$", page, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", row.split(" | ")[2]))
    if call == "table":  # those of its JSON
        missing = {name for name in columns - {"started"} if f"`{name}`" not in JSON_PAGE}
        assert missing == set()
        return
    elsewhere = {"windows": (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")}
    assert named <= columns
    assert {name for name in columns - named if f"`{name}`" not in elsewhere.get(call, "")} == set()
    if call != "runs":  # those of its JSON
        said = inspect.getdoc(getattr(Ledger, call)) or ""
        assert {name for name in columns if f"`{name}`" not in said} == set()


@pytest.mark.parametrize(
    "call", ["runs", "table", "windows", "steps", "events", "amendments", "amend", "add", "remove"]
)
def test_every_parameter_of_the_ledger_is_documented(call: str) -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (given,) = re.findall(rf"`{call}\((\w.*?)\)`", page)
    named = {one.strip("* ").partition("=")[0] for one in given.split(",")}
    assert named == inspect.signature(getattr(Ledger, call)).parameters.keys() - {"self"}


def test_every_command_that_prints_json_has_its_keys_held() -> None:
    printing = {
        path.removeprefix("carbontrack ")
        for path, command in reference.commands()
        if any("--format" in names for names, _ in reference.options(command))
    }
    held = {" ".join(words) for asked in JSON_OF for words in _beginnings(asked)}
    assert printing - held == ELSEWHERE


def _beginnings(asked: str) -> Iterator[list[str]]:
    words = asked.split()
    yield from (words[:length] for length in range(1, len(words) + 1))


def test_every_column_of_the_csv_is_a_key_of_the_rows(recorded: Command) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8") + JSON_PAGE
    lines = recorded("table", "--embodied", "--method", "report,measured", "--format", "csv").out
    heads = lines.splitlines()[0].split(",")
    missing = [head for head in heads if re.sub(r"_(ms|s)$", "", head) not in page]
    assert missing == [], "name these columns in the README or docs/json.md"
