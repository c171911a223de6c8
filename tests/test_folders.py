"""The user's folders."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.folders import user_config, user_data

HOME = pwd.getpwuid(os.getuid()).pw_dir.rstrip("/")


@pytest.mark.parametrize(
    ("variables", "data", "config"),
    [
        ({"HOME": "/h"}, "/h/.local/share", "/h/.config"),
        ({"HOME": "/h/"}, "/h/.local/share", "/h/.config"),
        ({"HOME": "/"}, "/.local/share", "/.config"),
        ({"HOME": "/h", "XDG_DATA_HOME": "/d/"}, "/d", "/h/.config"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/h/.local/share", "/c"),
        (
            {"HOME": "/h", "XDG_DATA_HOME": "d", "XDG_CONFIG_HOME": ""},
            "/h/.local/share",
            "/h/.config",
        ),
        ({"HOME": ""}, f"{HOME}/.local/share", f"{HOME}/.config"),
        ({"HOME": "h"}, f"{HOME}/.local/share", f"{HOME}/.config"),
        ({}, f"{HOME}/.local/share", f"{HOME}/.config"),
    ],
)
def test_they_are_where_the_xdg_specification_puts_them(
    variables: dict[str, str], data: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (Path(user_data()), Path(user_config())) == (
        Path(data, "carbontrack"),
        Path(config, "carbontrack"),
    )


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(CarbontrackError, match="Set HOME"):
        user_data()
