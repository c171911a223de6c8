"""One nasty name through every format: it neither acts, nor breaks a row, nor is lost."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.ledger.recorded_rows import Event
from carbontrack.ledger.url import ledger_url
from carbontrack.report import escape
from carbontrack.report.document import data_of, document_of
from carbontrack.report.explain import explain_text
from carbontrack.report.forms import form_of
from carbontrack.report.forms.html import html_of
from carbontrack.report.forms.latex import latex_of
from carbontrack.report.forms.markdown import markdown_of
from carbontrack.report.summary import summary_text
from carbontrack.report.table import Column, Table, table_of
from carbontrack.report.terminal import text_of
from carbontrack.vocabulary import TableFormat
from tests.fixtures import pictures
from tests.fixtures.command import Command
from tests.fixtures.runs import Recorded
from tests.report.test_render import estimates

NASTY = (
    "=cmd|' /C calc'!A0\n| x | **b** \x1b[2J\x1b]0;t\x07\x9b31m\x7f ![i](https://evil/i.png) "
    "[l](javascript:1) https://evil/a www.evil.org <img src=x onerror=1> $a_ \\end{x} `c` "
    "\u202egnp.\u2028\r\t~~s~~ &lt; _e_"
)
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]")  # of all output: no control, but \n


def nasty() -> list[Estimate]:
    rows = estimates(Recorded(name=NASTY, number=1, device=f"{NASTY}A100"), Recorded(number=2))
    return [replace(row, notes=(f"# {NASTY}",)) for row in rows]


def csv_of(rows: list[Estimate]) -> str:
    return str(form_of(TableFormat.CSV).render(document_of(rows, [])))


def table() -> Table:
    rows = nasty()
    return table_of(rows, [combine(rows, label=NASTY)])


@pytest.mark.parametrize(
    "write",
    [
        text_of,
        lambda table: text_of(table, plain=True),
        markdown_of,
        html_of,
        latex_of,
        lambda _: csv_of(nasty()),
        lambda _: str(form_of(TableFormat.YAML).render(document_of(nasty(), []))),
        lambda _: escape.json_text(data_of(nasty(), [combine(nasty())])),
        lambda _: explain_text(nasty()[0], Recorded().usages),
    ],
    ids=["terminal", "file", "markdown", "html", "latex", "csv", "yaml", "json", "explain"],
)
def test_no_format_lets_a_control_character_through(write: Callable[[Table], str]) -> None:
    text = write(table())
    if write is text_of:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # rich's own colours
    assert RAW.findall(text) == []
    assert "cmd" in text


def test_markdown_shows_the_name_and_nothing_else() -> None:
    text = markdown_of(table())
    found = MarkdownIt("gfm-like", {"linkify": False, "html": True}).enable("table").parse(text)
    rows = [token for token in found if token.type == "tr_open"]
    assert len(rows) == 4, "the head, two runs and the total"
    inline = [child for token in found for child in token.children or []]
    kinds = {child.type for child in inline}
    assert kinds <= {"text", "strong_open", "strong_close", "text_special"}, kinds
    assert {token.type for token in found}.isdisjoint({"heading_open", "html_block"})
    cells = [token.content for token in found if token.type == "inline"]
    shown = ["".join(c.content for c in token.children or []) for token in found if token.children]
    assert escape.visible(NASTY) in shown
    assert not any(re.search(r"(?<!\\)://|www\.", cell) for cell in cells), "GitHub links those"


def test_html_has_no_tag_of_a_name() -> None:
    text = html_of(table())
    tags = set(re.findall(r"<(/?\w+)", text))
    ours = {"table", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "li"}
    assert {tag.strip("/") for tag in tags} <= ours
    assert html.escape(escape.visible(NASTY)) in text


def test_no_cell_of_a_csv_is_a_formula() -> None:
    rows = list(csv.reader(io.StringIO(csv_of(nasty()))))
    assert rows[1][0].startswith("'=cmd")
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip().startswith(("=", "+", "@", "\t", "\r")), cell
        assert not cell.startswith("-") or float(cell) < 0


def test_json_means_the_very_name() -> None:
    answer = json.loads(escape.json_text(data_of(nasty(), [])))
    assert answer["rows"][0]["label"] == NASTY


def test_heads_of_columns_are_names_too() -> None:
    named = Table((Column(NASTY, "", ("1",)),), has_total=False, notes=())
    assert len(markdown_of(named).splitlines()) == 4
    assert "␛" in text_of(named)


def test_the_commands_show_escapes_as_signs(command: Command, tmp_path: Path) -> None:
    one = Recorded(name=NASTY, user=NASTY, model={"name": NASTY}, device=NASTY)
    event = Event(one.start_ms, "checkpoint", NASTY)
    pictures.write(ledger_url(str(tmp_path / "ledger.db")), one, one.windows, [event], [])
    for arguments in (
        ("runs",),
        ("show", "last"),
        ("table",),
        ("table", "--by", "user", "--format", "markdown"),
        ("explain", "last"),
        ("compare", "last", "last"),
        ("runs", "--format", "json"),
    ):
        done = command(*arguments)
        assert RAW.findall(done.out) == [], arguments
    assert RAW.findall(command("show", f"no{NASTY}").err) == []
    assert RAW.findall(summary_text(one.run, one.sensors, one.usages, one.step_totals)) == []


@given(st.text())
def test_visible_text_is_one_line_of_the_same_letters(text: str) -> None:
    shown = escape.visible(text)
    assert RAW.findall(shown) == []
    assert len(shown.splitlines()) <= 1
    assert len(shown) == len(text)
    assert escape.visible(shown) == shown
    assert json.loads(escape.json(json.dumps(text, ensure_ascii=False))) == text
