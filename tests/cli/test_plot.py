"""`carbontrack plot`: a picture where it was asked for, or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.wrap import Wrapper

MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.mark.parametrize("suffix", list(MAGIC))
def test_it_writes_the_kind_of_picture_that_the_name_says(
    wrapper: Wrapper, tmp_path: Path, suffix: str
) -> None:
    wrapper.run("sleep", "1", options=("-q", "--name", "seen"))
    path = tmp_path / f"figure{suffix}"
    done = wrapper.carbontrack("plot", "seen", "--out", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}\n", "")
    picture = path.read_bytes()
    assert picture.startswith(MAGIC[suffix])
    if suffix == ".svg":
        assert b"simulated" in picture, "text is text, and says what was not measured"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "a.bmp"], "not a kind of picture"),
        (["--out", "no-such-folder/a.png"], "there is no folder no-such-folder"),
        (["--pue", "0.5"], "0.5"),
        (["nobody"], "no run 'nobody'"),
    ],
)
def test_mistakes_are_one_line(wrapper: Wrapper, arguments: list[str], says: str) -> None:
    wrapper.run("true")
    done = wrapper.carbontrack("plot", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
