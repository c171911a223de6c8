"""Settings: which origin wins, what they are called, and one clear line for each mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from carbontrack import config, keys
from carbontrack.errors import CarbontrackError


def settings(
    folder: Path,
    *,
    flags: dict[str, Any] | None = None,
    facility: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
) -> dict[str, config.Setting]:
    around = config.surroundings(environ or {}, folder, folder / "user.toml")
    layers = [config.flags(**(flags or {})), config.snapshot(facility or {}), *around]
    return config.resolve(layers)


def test_nothing_set_is_nothing_chosen(tmp_path: Path) -> None:
    assert settings(tmp_path) == {}


def test_precedence_and_origin(tmp_path: Path) -> None:
    (tmp_path / "user.toml").write_text("pue = 1.5\ntariff = 0.3\nwue = 1.8\nfacility = 'mine'")
    (tmp_path / "carbontrack.toml").write_text("pue = 1.4\ntariff = 0.2\nwue = 1.7")
    environ = {"CARBONTRACK_PUE": "1.3", "CARBONTRACK_TARIFF": "0.1", "CARBONTRACK_DB": "x.db"}
    found = settings(tmp_path, flags={"pue": 1.1}, facility={"pue": 1.2}, environ=environ)
    assert found["pue"] == config.Setting(1.1, "flag")
    assert found["tariff"] == config.Setting(0.1, "environment")
    assert found["wue"] == config.Setting(1.7, str(tmp_path / "carbontrack.toml"))
    assert found["facility"] == config.Setting("mine", str(tmp_path / "user.toml"))
    recorded = settings(tmp_path, facility={"pue": 1.2, "unknown": 3}, environ=environ)
    assert recorded["pue"] == config.Setting(1.2, "recorded with the run")
    assert config.values(recorded)["pue"] == 1.2


def test_pyproject_of_a_parent_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.carbontrack]\nzone = 'FRA'\ncurrency = 'eur'")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = settings(below)
    assert found["zone"] == config.Setting("FRA", str(tmp_path / "pyproject.toml"))
    assert found["currency"].value == "EUR"


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ({"zone": "FRA"}, "intensity = 0.4"),
        ({"intensity": 0.4}, "zone = 'FRA'"),
        ({"provider": "gcp"}, "pue = 1.4"),
        ({"price_per_gpu_hour": 2.0}, "tariff = 0.2"),
    ],
)
def test_another_answer_to_the_same_question_is_silenced(
    tmp_path: Path, high: dict[str, Any], low: str
) -> None:
    """A zone on the command line is not overruled by a number in a file."""
    (tmp_path / "carbontrack.toml").write_text(low)
    found = config.values(settings(tmp_path, flags=high))
    assert {name: found[name] for name in found if name != "currency"} == high


@pytest.mark.parametrize(
    ("flags", "text", "says"),
    [
        (
            {"currency": "EUR"},
            "tariff = 0.2\ncurrency = 'USD'",
            "tariff is in USD (FILE), but the currency is EUR (flag)",
        ),
        (
            {"currency": "EUR"},
            "gpu_price = 3e4",
            "gpu_price is in USD (FILE), but the currency is EUR (flag)",
        ),
        (
            {"tariff": 0.2},
            "wue = 1\ncurrency = 'EUR'",
            "tariff is in USD (flag), but the currency is EUR (FILE)",
        ),
    ],
)
def test_money_is_never_read_in_another_currency(
    tmp_path: Path, flags: dict[str, Any], text: str, says: str
) -> None:
    file = tmp_path / "carbontrack.toml"
    file.write_text(text)
    with pytest.raises(CarbontrackError) as error:
        settings(tmp_path, flags=flags)
    assert says.replace("FILE", str(file)) in str(error.value)


def test_money_keeps_its_currency_where_it_is_stored(tmp_path: Path) -> None:
    (tmp_path / "carbontrack.toml").write_text("tariff = 0.2\ncurrency = 'eur'\ngpu_price = 3e4")
    found = settings(tmp_path)
    assert config.values(found)["currency"] == "EUR"
    rent = settings(tmp_path, flags={"price_per_gpu_hour": 2.0, "currency": "USD"})
    assert config.values(rent)["currency"] == "USD", "nothing is bought: gpu_price is not used"
    (tmp_path / "carbontrack.toml").write_text("tariff = 0.2")
    assert config.values(settings(tmp_path))["currency"] == "USD"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pue": 0.9}, "--pue 0.9 is below 1"),
        ({"pue": 9.0}, "--pue 9 is above 5"),
        ({"intensity": -0.1}, "negative"),
        ({"intensity": 385.0}, "0.385"),
        ({"tariff": float("nan")}, "not a number"),
        ({"currency": "euro"}, "EUR"),
        ({"zone": " "}, "not a text"),
    ],
)
def test_values_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(CarbontrackError) as error:
        config.flags(**given)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pux = 1.2", "Did you mean pue"),
        ("pue = 'much'", "carbontrack.toml: pue 'much': not a number"),
        ("pue = true", "not a number"),
        ("pue = '1,2'", "pue '1,2': not a number: write 1.2."),
        ("pue = '1_0'", "not a number"),
        ("tariff = '1,300'", "not a number. "),
        ("zone = 3", "not a text"),
        (
            "ship_seconds = '7 days'",
            "'7 days': neither off nor an age such as 36h, 7d or 12w.",
        ),
        ("ship_seconds = '7m'", "'7m': neither off nor an age"),
        ("factors_as_of = '2026-02-30'", "'2026-02-30': not a day such as 2026-01-31."),
        ("ship_seconds = 7", "not a text"),
        ("pue = ", "carbontrack.toml"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "carbontrack.toml").write_text(text)
    with pytest.raises(CarbontrackError) as error:
        settings(tmp_path)
    assert says in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_bad_environment_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(CarbontrackError, match="CARBONTRACK_PUE"):
        settings(tmp_path, environ={"CARBONTRACK_PUE": "0.5"})


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs/factors.md").read_text()
    assert [key.name for key in keys.KEYS if f"{key.name} =" not in text] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("carbontrack.toml", b"\xef\xbb\xbfpue = 1.2\n"),  # as Notepad writes it
        ("pyproject.toml", b"\xef\xbb\xbf[tool.carbontrack]\npue = 1.2\n"),
    ],
)
def test_a_byte_order_mark_is_no_setting(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(text)
    assert settings(tmp_path)["pue"].value == 1.2


@pytest.mark.parametrize(
    "text", [b"[tool\n", b"\xff\xfe", b"tool = 1\n", b"[tool]\nother = 1\n", b"x = " + b"[" * 9000]
)
def test_a_pyproject_that_does_not_name_us_is_none_of_ours(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert settings(folder) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", b"[tool]\ncarbontrack = 1\n"),
        ("pyproject.toml", b"[tool.carbontrack\n"),
        ("carbontrack.toml", b"pue = \xff\n"),
        ("carbontrack.toml", b"pue = " + b"[" * 9000),
    ],
)
def test_what_cannot_be_read_is_named_or_left_out(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(CarbontrackError, match=name):
        settings(tmp_path)
    said: list[str] = []
    layers = config.surroundings(
        environ={"CARBONTRACK_ZONE": "FRA"},
        folder=tmp_path,
        user_file=tmp_path / "none",
        skip=lambda error: said.append(str(error)),
    )
    assert [dict(layer.values) for layer in layers] == [{"zone": "FRA"}]
    assert len(said) == 1
    assert str(tmp_path / name) in said[0]


@pytest.mark.parametrize("kind", ["folder", "loop", "fifo"])
def test_a_file_of_ours_that_is_none_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "carbontrack.toml"
    make = {"folder": path.mkdir, "loop": lambda: path.symlink_to(path)}
    make.get(kind, lambda: os.mkfifo(path))()
    said: list[str] = []
    config.surroundings({}, tmp_path, tmp_path / "none", skip=lambda error: said.append(str(error)))
    (one,) = said
    assert one.startswith(f"{path}: ")


def test_a_huge_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "carbontrack.toml"
    path.touch()
    os.truncate(path, 3 << 30)
    with pytest.raises(CarbontrackError, match="larger than"):
        settings(tmp_path)
