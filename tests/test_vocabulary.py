"""Every vocabulary is known once: no word of one is written out where it could be named."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

import llama_train.vocabulary
from carbontrack import vocabulary
from carbontrack.vocabulary import Doubt, EventKind
from dashboards.live.columns import SORT_FIELDS

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "dashboards/live/static"
VOCABULARIES: dict[str, type[StrEnum]] = {
    name: one
    for name, one in inspect.getmembers(vocabulary, inspect.isclass)
    if issubclass(one, StrEnum) and one is not StrEnum
}
# Fields whose values are words of a vocabulary.
FIELDS = {
    "status",
    "kind",
    "meter",
    "quality",
    "scope",
    "method",
    "defaults",
    "format",
    "state",
    "on_budget",
    "visible",
    "against",
}


def page_words(text: str) -> dict[str, dict[str, str]]:
    objects = re.findall(r"export const (\w+) = Object\.freeze\(\{(.*?)\}\);", text, re.DOTALL)
    return {name: dict(re.findall(r'(\w+): "([^"]*)"', body)) for name, body in objects}


def test_the_page_knows_the_same_words() -> None:
    copies = page_words((STATIC / "vocabulary.js").read_text())
    assert {"Status", "Quality", "Method", "EventKind", "TableFormat"} <= copies.keys()
    for name, words in copies.items():
        assert words == {word.name: word.value for word in VOCABULARIES[name]}, name


def test_a_training_logs_events_that_carbontrack_knows() -> None:
    words = llama_train.vocabulary.EventKind
    assert {word.name: word.value for word in words}.items() <= {
        word.name: word.value for word in EventKind
    }.items()
    assert set(llama_train.vocabulary.Format) == set(vocabulary.Format)


def test_every_reason_for_a_doubt_is_documented() -> None:
    page = (ROOT / "docs/meters.md").read_text(encoding="utf-8")
    rules = page.partition("| rule | when | believed |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)`", rules, re.MULTILINE)) == set(Doubt)


def test_the_page_sorts_by_what_its_server_sorts_by() -> None:
    (listed,) = re.findall(
        r"const COLUMNS = \[(.*?)\];", (STATIC / "runs.js").read_text(), re.DOTALL
    )
    assert set(re.findall(r'\["(\w+)"', listed)) == set(SORT_FIELDS)


def test_the_page_compares_with_named_words_only() -> None:
    field = "|".join(FIELDS)
    for path in STATIC.glob("*.js"):
        written_out = re.findall(rf'\.(?:{field}) [!=]== "[^"]+"', path.read_text())
        assert written_out == [], path


@pytest.mark.parametrize("folder", ["carbontrack", "dashboards"])
def test_words_are_named_not_written_out(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        if path.name != "vocabulary.py" and "versions" not in path.parts:
            found = list(written_out(ast.parse(path.read_text())))
            assert found == [], path


def written_out(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Words compared with a field of a vocabulary, or given as one."""
    words = {word.value for one in VOCABULARIES.values() for word in one}
    for node in ast.walk(tree):
        for value in values_of_fields(node):
            if isinstance(value, ast.Constant) and value.value in words:
                yield value.lineno, str(value.value)


def values_of_fields(node: ast.AST) -> Iterator[ast.AST]:
    """What a field is compared with, passed as, or has by default."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(is_field(one) for side in sides for one in alternatives(side)):
            keys = [n.slice for n in ast.walk(node) if isinstance(n, ast.Subscript)]
            yield from (v for side in sides for v in ast.walk(side) if v not in keys)
    elif isinstance(node, ast.keyword):
        yield from [node.value] if node.arg in FIELDS else []
    elif isinstance(node, ast.AnnAssign) and node.value:
        yield from [node.value] if is_field(node.target) else []


def alternatives(side: ast.expr) -> list[ast.expr]:
    """Of `a or b` both."""
    return side.values if isinstance(side, ast.BoolOp) else [side]


def is_field(node: ast.expr) -> bool:
    """`run.status`, `status` or `item["status"]`."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in FIELDS
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
    return name in FIELDS


def test_every_kind_of_event_is_emitted_and_known() -> None:
    folders = [ROOT / "carbontrack" / name for name in ("record", "importers")]
    recorder = "\n".join(path.read_text() for f in folders for path in f.rglob("*.py"))
    training = "\n".join(path.read_text() for path in (ROOT / "llama_train").rglob("*.py"))
    emitted = {EventKind[name] for name in re.findall(r"EventKind\.([A-Z_]+)", recorder)}
    logged = {EventKind[name] for name in re.findall(r"EventKind\.([A-Z_]+)", training)}
    assert logged == set(llama_train.vocabulary.EventKind)
    assert emitted | logged == set(EventKind)
