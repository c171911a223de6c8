"""What a user installs beside us has bounds, and is tested in a version between them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_every_dependency_has_an_upper_bound_and_is_tested_below_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [names for extra, names in project["optional-dependencies"].items() if extra != "dev"]
    pinned = dict(
        _normal(line.split(";")[0].strip()).split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    for text in [*project["dependencies"], *(name for names in extras for name in names)]:
        needed = Requirement(text)
        assert {"<", ">="} <= {one.operator for one in needed.specifier}, text
        assert needed.specifier.contains(pinned[_normal(needed.name)]), text


def _normal(name: str) -> str:
    """As indexes compare names: lm_eval is lm-eval."""
    return re.sub(r"[-_]+", "-", name).lower()
