"""One table in every format: nothing is lost, nothing breaks the format."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import carbontrack
from carbontrack import config
from carbontrack.account.estimate import estimate_run
from carbontrack.account.result import Estimate
from carbontrack.account.total import combine
from carbontrack.factors.catalog import Factor
from carbontrack.factors.resolve import Factors, resolve
from carbontrack.report.document import data_of, document_of
from carbontrack.report.escape import json_text
from carbontrack.report.forms import form_of
from carbontrack.report.forms.html import html_of
from carbontrack.report.forms.latex import latex_of
from carbontrack.report.forms.markdown import markdown_of
from carbontrack.report.origin import fingerprint
from carbontrack.report.table import Column, carbon_cell, frame, table_of
from carbontrack.report.terminal import text_of as text_of_table
from carbontrack.report.tex import tex
from carbontrack.version import __version__
from carbontrack.vocabulary import Status, TableFormat
from tests.fixtures import tools
from tests.fixtures.runs import Recorded

NASTY = r"50% of_a & b {c} #1 <i> |x| ~^ \end ± €"


def estimates(*recorded: Recorded, method: str = "measured") -> list[Estimate]:
    return [
        estimate_run(
            r.run,
            r.sensors,
            r.usages,
            r.step_totals,
            resolve(config.resolve([]), method=method, devices={r.device: r.rated_w}),
            method=method,
        )
        for r in recorded
    ]


def two() -> list[Estimate]:
    return estimates(Recorded(name=NASTY, number=1), Recorded(name="b", number=2, seconds=90.0))


def text_of(rows: Sequence[Estimate]) -> str:
    return text_of_table(table_of(rows, [combine(rows)]))


def test_text_fits_100_columns_and_shows_the_total() -> None:
    text = text_of(two())
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "total" in text
    assert "PUE 1.54 assumed" in text


def test_a_narrow_terminal_leaves_columns_out_and_crops_no_number() -> None:
    rows = estimates(Recorded(number=1), Recorded(number=2, seconds=3e6))
    table = table_of(rows, [combine(rows)])
    text = text_of_table(table, width=72)
    assert max(len(line) for line in text.splitlines()) <= 72
    assert "left out to fit the width: facility, tokens, loss" in " ".join(text.split())
    assert "…" not in text
    assert "left out" not in text_of_table(table, width=120)
    narrow = text_of_table(table, width=40)
    assert all(cell in narrow for cell in table.columns[3].cells), "too wide rather than cropped"


def test_a_long_name_is_folded_and_whole() -> None:
    name = "llama2-13b-continued-pretraining-on-code-" * 2 + "restart-3"
    text = text_of(estimates(Recorded(name=name, number=1), Recorded(number=2)))
    assert max(len(line) for line in text.splitlines()) <= 100
    lines = text.splitlines()
    folded = "".join(line[1:25].strip() for line in lines[3:9])
    assert name in folded


def test_one_row_has_no_total() -> None:
    assert "total" not in text_of(estimates(Recorded()))


def test_units_follow_the_largest_value() -> None:
    small, large = Recorded(seconds=20.0, steps=0), Recorded(count=2, seconds=2e7, steps=0)
    assert "g" in _unit("CO₂e", small)
    assert _unit("CO₂e", large) == "t"
    assert (_unit("energy", small), _unit("energy", large)) == ("Wh", "MWh")


def _unit(head: str, recorded: Recorded) -> str:
    table = table_of(estimates(recorded), [])
    return next(column.unit for column in table.columns if column.head == head)


def test_a_column_has_one_unit() -> None:
    large, small = Recorded(number=1, seconds=1e7, steps=0), Recorded(number=2, seconds=1e3)
    rows = estimates(large, small)

    def carbon(*, precise: bool = False, units: Sequence[str] = ()) -> Column:
        table = table_of(rows, [combine(rows)], precise=precise, units=units)
        return next(column for column in table.columns if column.head == "CO₂e")

    assert (carbon().unit, carbon().cells, carbon().total) == ("t", ("5.65", "0.000565"), "5.65")
    assert carbon(precise=True).cells == ("5.65", "0.000565")
    assert carbon(units=["g"]).cells == ("5,650,000", "565")
    assert carbon(units=["g"], precise=True).cells == ("5,646,132.80", "564.61")
    (alone,) = (c for c in table_of(rows[1:], []).columns if c.head == "CO₂e")
    assert f"{alone.cells[0]} {alone.unit}" == carbon_cell(rows[1]) == "565 g"


def test_what_is_unknown_is_a_dash() -> None:
    cpu = Recorded(kind="cpu", count=2, meter="rapl", device="CPU", rated_w=None, steps=0)
    (row,) = estimates(cpu, method="report")
    cells = {column.head: column.cells[0] for column in table_of([row], []).columns}
    assert cells["GPU"] == cells["CO₂e"] == cells["energy"] == "–"
    assert "tokens" not in cells


def test_markdown_is_a_table_with_the_same_number_of_cells_in_each_line() -> None:
    rows = two()
    lines = markdown_of(table_of(rows, [combine(rows)])).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert any(line.startswith("- PUE 1.54 assumed") for line in lines)


def test_a_name_is_no_markup_in_markdown() -> None:
    lines = markdown_of(table_of(two(), [])).splitlines()
    assert r"\<i> \|x\|" in lines[2]


def test_html_is_well_formed_and_escaped() -> None:
    rows = two()
    text = html_of(table_of(rows, [combine(rows)]))
    opened: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Checker().feed(text)
    assert opened == []
    assert "<i>" not in text
    assert "<tfoot>" in text


LABELS = [
    NASTY[:18],
    NASTY[18:],
    "[1] first",
    "*",
    "Größe é Ł ð",
    "模型 → ∞",
    "tab\tand\n\nlines",
    'say "x"',
]


def latex() -> str:
    rows = estimates(*(Recorded(name=name, number=n) for n, name in enumerate(LABELS)))
    return latex_of(table_of(rows, [combine(rows)]))


def test_latex_is_whole_without_a_tex_to_try_it() -> None:
    """Balanced groups, nothing that `\\\\` takes for its argument, no sign that pdfTeX lacks."""
    text = latex()
    comments = [line for line in text.splitlines() if line.startswith("%")]
    body = text.partition("\\begin{table}")[2]
    assert all(line.isprintable() for line in comments)
    bare = re.sub(r"\\[&%$#_{}]", "", body)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"\\\\\s*[\[*]", body)
    assert bare.count("$") % 2 == 0
    assert set(body) <= {chr(n) for n in range(32, 127)} | set("\nößé")
    assert "U+6A21U+578B" in body
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


PAPER = [
    Recorded(name="7B", number=1, count=64, seconds=1e6),
    Recorded(name="13B", number=2, count=2, seconds=4e3, status=Status.FAILED),
    Recorded(name="simulated", number=3, seconds=9e5, meter="sim", quality="simulated"),
]


def paper(rows: Sequence[Estimate]) -> dict[str, str]:
    document = document_of(rows, [combine(rows)], command=["carbontrack", "table", "--zone", "FRA"])
    return {
        suffix: str(form_of(format).render(document))
        for suffix, format in ((".tex", TableFormat.LATEX), (".bib", TableFormat.BIBTEX))
    }


def test_latex_sets_each_sign_of_our_own_words() -> None:
    package = Path(carbontrack.__file__).parent
    files = [path for of in _OF_REPORTS for path in (package / of).rglob("*.py")]
    signs = {sign for path in files if path.name not in _OF_OTHERS for sign in _words_of(path)}
    assert {"₂", "±", "≥"} <= signs
    assert [sign for sign in signs if not sign.isascii() and tex(sign).startswith("U+")] == []


_OF_REPORTS = ("account", "factors", "query", "report")
_OF_OTHERS = ("escape.py", "tex.py")  # signs of what others wrote


def _words_of(path: Path) -> str:
    """All texts in a file that are not its documentation."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    documentation = [node.value for node in nodes if isinstance(node, ast.Expr)]
    texts = [node for node in nodes if isinstance(node, ast.Constant) and node not in documentation]
    return "".join(str(text.value) for text in texts)


def test_latex_has_what_a_paper_needs() -> None:
    rows = estimates(*PAPER)
    text = paper(rows)[".tex"]
    comment, _, body = text.partition("\\begin{table}")
    for one in PAPER:
        assert f"% run {one.name}: {one.run.id}" in comment
    assert f"% made by carbontrack {__version__} at 20" in comment
    assert "% command: carbontrack table --zone FRA" in comment
    assert f"% ledger: SHA-256 {fingerprint(rows)}" in comment
    assert "\\caption{" in body
    assert "\\label{tab:carbontrack}" in body
    notes = body.partition("\\begin{tablenotes}")[2]
    assert "is assumed to be 1.54 (average of operators, 2025)~\\cite{uptime2025}." in notes
    assert "simulated: no device was measured (simulated)" in notes
    assert "Runs that failed; what they used is included: 13B." in notes
    assert "S[table-format=" in body
    for advice in ("--", "set ", "given", "carbontrack"):
        assert advice not in notes.replace("tab:carbontrack", "")


def test_the_bibliography_is_of_exactly_the_factors_that_are_cited() -> None:
    for zone, of_zone in ((None, "owid-ember"), ("US-CAMX", "egrid2023"), ("gcp:us-west1", "gcp")):
        flags = config.flags(zone=zone, tariff=None if zone is None else 0.1)
        factors = resolve(config.resolve([flags]), method="measured")
        one = Recorded()
        rows = [estimate_run(one.run, one.sensors, one.usages, one.step_totals, factors)]
        made = paper(rows)
        cited = set(re.findall(r"\\cite\{(.*?)\}", made[".tex"]))
        assert cited == set(re.findall(r"@misc\{(.*?),", made[".bib"]))
        assert any(key.startswith(of_zone) for key in cited)
        assert ("eia2025" in cited) == (zone is None)
        for field in ("author", "title", "year", "url"):
            assert len(re.findall(rf"^  {field} = {{.+}},$", made[".bib"], re.M)) == len(cited)


def test_eia_is_cited_as_it_asks_to_be() -> None:
    """U.S. Energy Information Administration, title, date of publication."""
    entry = paper(estimates(*PAPER))[".bib"].partition("@misc{eia2025,")[2].partition("\n}")[0]
    for field in (
        "author = {{U.S. Energy Information Administration}}",
        "year = {2026}",
        "month = apr",
    ):
        assert f"  {field},\n" in f"{entry}\n", field


def test_a_band_that_is_not_known_is_said() -> None:
    simulated = estimates(PAPER[2])
    notes = table_of(simulated, [combine(simulated)], band=True).notes
    assert "±: no band of these sensors is known; it is of NVML's readings alone" in notes
    assert not any("±" in note for note in table_of(simulated, [combine(simulated)]).notes)


def test_notes_that_differ_in_numbers_alone_stand_once() -> None:
    rows = [
        replace(row, notes=(f"power is {watts} W, but its limit is 400 W",))
        for row, watts in zip(estimates(*PAPER), (593, 593, 610), strict=True)
    ]
    (said,) = (note for note in table_of(rows, []).notes if "its limit" in note)
    assert said == (
        "7B, 13B, simulated: power is 593 W, but its limit is 400 W (and 1 more with other numbers)"
    )


def test_the_fingerprint_is_of_what_was_measured() -> None:
    rows = estimates(*PAPER)
    dearer = [replace(row, cost=1.0, factors=None, tco2e=None) for row in rows]
    assert fingerprint(rows) == fingerprint(dearer[::-1])
    assert fingerprint(rows) != fingerprint(estimates(replace(PAPER[0], power_w=361.0), *PAPER[1:]))


def by_two_keys(*, names: str) -> str:
    """Grouped by a long name and then by month, with a sub-total of each group."""
    rows = [
        replace(row, group={"project": f"{names}-{n // 2}", "month": f"2026-0{1 + n % 2}"})
        for n, row in enumerate(estimates(*(replace(PAPER[0], number=n) for n in range(4))))
    ]
    sums = [
        replace(combine(rows[n : n + 2]), group={"project": rows[n].group["project"]})
        for n in (0, 2)
    ]
    return latex_of(table_of(rows, [combine(rows)], subtotals=sums, precise=True))


def test_latex_has_the_first_of_two_keys_above_its_rows() -> None:
    lines = by_two_keys(names="pretraining").splitlines()
    at = next(n for n, line in enumerate(lines) if "\\emph{pretraining-0}" in line)
    assert lines[at].startswith("\\multicolumn{")
    assert [line.split(" & ")[0] for line in lines[at + 1 : at + 4]] == [
        "~~2026-01",
        "~~2026-02",
        "~~total",
    ]
    assert lines[at + 3].endswith("\\addlinespace")


def every_kind() -> dict[str, str]:
    """LaTeX of wide and of long tables: with each option that adds columns, and with many rows."""
    flags = config.flags(wue=1.8, contract_intensity=0.1)
    some = [
        Recorded(number=n, name=f"llama2-70b-muon-lr3e-4-seed{n}", seconds=1e6) for n in range(5)
    ]

    def rows_of(recorded: Sequence[Recorded], method: str = "measured") -> list[Estimate]:
        factors = resolve(
            config.resolve([flags]),
            method=method,
            devices={recorded[0].device: recorded[0].rated_w},
            embodied=True,
        )
        return [
            estimate_run(
                *(one.run, one.sensors, one.usages, one.step_totals, factors),
                method=method,
                embodied=True,
            )
            for one in recorded
        ]

    measured, report = rows_of(some), rows_of(some, "report")
    both = [row for pair in zip(measured, report, strict=True) for row in pair]
    totals = [combine(measured), combine(report)]
    plain = estimates(*some)
    many = [replace(plain[0], label=f"RUN {n}", run_ids=(f"run-{n}",)) for n in range(90)]
    capitals = [replace(row, label=f"MUON-WARMUP-{row.label.upper()}") for row in measured]
    phrases = [replace(row, label="a-name-of-many-words-" * 6) for row in plain]
    grouped = [
        replace(row, group={"project": f"PRETRAINING-{n // 30}", "month": f"2026-{n % 12 + 1:02}"})
        for n, row in enumerate(many)
    ]
    sums = [
        replace(combine(grouped[at : at + 30]), group={"project": f"PRETRAINING-{at // 30}"})
        for at in (0, 30, 60)
    ]

    def of(rows: Sequence[Estimate], sums: Sequence[Estimate] | None = None, **how: Any) -> str:
        return latex_of(table_of(rows, sums or [combine(rows)], precise=True, **how))

    return {
        "plain": of(plain),
        "band": of(plain, band=True),
        "options": of(measured),
        "options, band": of(measured, band=True, lost=True),
        "both methods": of(both, totals),
        "all": of(both, totals, band=True, lost=True),
        "capitals": of(capitals),
        "phrases": of(phrases, band=True),
        "many": of(many),
        "many, band": of(many, band=True),
        "two keys": of(grouped, subtotals=sums, runs=many),
        "two keys with long names": by_two_keys(names="pretraining-of-language-models"),
        "nasty": latex(),
    }


def test_latex_is_laid_out_as_a_page_holds_it() -> None:
    """Small, then on its side with broken names, then in panels; long ones in parts."""
    made = every_kind()
    assert "\\footnotesize" in made["plain"]
    assert "\\scriptsize" in made["nasty"]
    assert (
        made["plain"].count("\\begin{table}[tb]") == made["nasty"].count("\\begin{table}[tb]") == 1
    )
    assert "booktabs,siunitx,threeparttable,rotating}" in made["phrases"]
    assert made["phrases"].count("{sidewaystable}") == 2
    assert "\\begin{tabular}{>{\\raggedright" in made["phrases"]
    assert "left out" not in made["all"]
    assert made["all"].count("rated $\\div$") == made["all"].count("\\begin{sidewaystable}")
    assert made["all"].count("\\begin{tabular}") > made["all"].count("\\begin{sidewaystable}")
    for name, text in made.items():
        assert text.count("\\label{tab:carbontrack}") == 1, name
        assert text.count("\\begin{tablenotes}") <= 1, name
        assert text.count("(continued)}") == text.count("\\addtocounter{table}{-1}"), name
    assert [line.split(" & ")[0] for line in made["many"].splitlines() if "RUN" in line][1:] == [
        f"RUN {n}" for n in range(1, 90)
    ]
    for name in ("many", "many, band"):
        pages = made[name].split("\\begin{tabular}")[1:]
        most = 33 if "sideways" in made[name] else 60
        assert 1 < len(pages) <= 4
        assert all(0 < page.count("RUN ") <= most for page in pages), name
        assert ["total &" in page for page in pages] == [False] * (len(pages) - 1) + [True]
    for page in made["two keys"].split("\\midrule\n")[1:]:
        assert page.startswith(("\\multicolumn{", "total"))


def typeset(folder: Path, body: str, *commands: str) -> str:
    """What the last of the commands printed, of a document with this body."""
    tools.need(tools.LATEX)
    packages = "booktabs,siunitx,threeparttable,rotating"
    (folder / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{{packages}}}\n"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    for command in commands:
        options = ["-interaction=nonstopmode", "-halt-on-error"] if command == "pdflatex" else []
        words = [command, *options, "t"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def test_latex_compiles_within_the_line(tmp_path: Path) -> None:
    inputs = []
    for n, (name, text) in enumerate(every_kind().items()):
        (tmp_path / f"kind-{n}.tex").write_text(text)
        inputs.append(f"\\typeout{{{name}}}\\input{{kind-{n}}}\\clearpage")
    bare = "\\renewcommand{\\label}[1]{}\\renewcommand{\\cite}[1]{[1]}\n"
    said = typeset(tmp_path, bare + "\n".join(inputs), "pdflatex")
    for fault in ("Overfull", "too large"):
        assert fault not in said, said[said.index(fault) - 500 :][:1000]


def test_latex_finds_each_source_that_it_cites(tmp_path: Path) -> None:
    for suffix, text in paper(estimates(*PAPER)).items():
        (tmp_path / f"paper{suffix}").write_text(text)
    body = (
        "See Table~\\ref{tab:carbontrack}.\\input{paper}\n"
        "\\bibliographystyle{plain}\\bibliography{paper}"
    )
    said = typeset(tmp_path, body, "pdflatex", "bibtex", "pdflatex", "pdflatex")
    for fault in ("Overfull", "undefined"):
        assert fault not in said


def test_json_is_strict_and_holds_everything() -> None:
    rows = two()
    answer = json.loads(json_text(data_of(rows, [combine(rows)])))
    assert answer["rows"][0]["label"] == NASTY
    assert answer["rows"][0] == rows[0].row()
    assert [factor["name"] for factor in answer["rows"][0]["factors"]] == [
        "pue",
        "intensity",
        "tariff",
    ]


def read_back(row: dict[str, Any]) -> Estimate:
    """The estimate that a row of the JSON is."""
    factors: dict[str, Any] = {}
    for known in (Factor(**factor) for factor in row["factors"]):
        by_device = known.name in ("rated_w", "embodied_kg")
        factors[known.name] = {row["device_name"]: known} if by_device else known
    given = {field.name: row[field.name] for field in fields(Estimate) if field.name in row}
    given |= {name: tuple(row[name]) for name in ("run_ids", "assumed", "notes")}
    return Estimate(
        **{
            **given,
            "factors": Factors(currency=row["currency"], **factors) if factors else None,
            "uuids": frozenset(row["device_uuids"]),
            "device_names": (row["device_name"],),
        }
    )


numbers = st.none() | st.floats(0, 1e15)


@settings(max_examples=30, deadline=None)
@given(
    label=st.text(max_size=20),
    tco2e=numbers,
    cost=numbers,
    tokens=st.none() | st.integers(0),
    method=st.sampled_from(["measured", "report"]),
)
def test_json_to_table_to_json_loses_nothing(
    label: str, tco2e: float | None, cost: float | None, tokens: int | None, method: str
) -> None:
    rows = estimates(Recorded(count=2), Recorded(number=2, count=2, coverage=0.5), method=method)
    rows[0] = replace(rows[0], label=label, tco2e=tco2e, cost=cost, tokens=tokens)
    totals = [combine(rows)]
    text = json_text(data_of(rows, totals))
    answer = json.loads(text)
    again = [read_back(row) for row in answer["rows"]]
    total = read_back(answer["total"])
    assert json_text(data_of(again, [total])) == text
    assert table_of(again, [total]) == table_of(rows, totals)
    assert combine(again).tco2e == totals[0].tco2e
    line = frame(again).iloc[0]
    for key, value in (("tco2e", tco2e), ("cost", cost)):
        assert (value is None and pd.isna(line[key])) or float(line[key]) == value
    assert line["label"] == label
