"""Where a run is shipped to, as options and variables say it: the address and the token.

Standard library only, and little of it: it is checked before the job starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from carbontrack.errors import CarbontrackError
from carbontrack.record.plain_job import TOKEN, TOKEN_FILE

TYPE_CHECKING = False  # `typing` costs 15 ms, and a job waits for this
if TYPE_CHECKING:
    from typing import Any

URL = "CARBONTRACK_SHIP"
SECONDS = "CARBONTRACK_SHIP_SECONDS"
_MAX_TOKEN_BYTES = 4 << 10
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EXAMPLE = "Example: https://collector.example.org:8477"


class Address:
    """Where a collector listens."""

    def __init__(self, https: bool, host: str, port: int, path: str) -> None:
        self.https = https
        self.host = host
        self.port = port
        self.path = path

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.https else ''}://{host}:{self.port}{self.path}"


def address(url: str, *, insecure: bool = False, where: str = "--ship") -> Address:
    """The address of a URL that stands `where`: in which option, variable or file.

    Raises CarbontrackError for what is not one, has a secret in it, or would send the token to
    another host in clear text.
    """
    from urllib.parse import urlsplit

    from carbontrack.redact import redact_text

    shown = redact_text(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CarbontrackError(f"{where} {shown}: {error}.", hint=_EXAMPLE) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise CarbontrackError(
            f"{where} {parts.scheme}://…: an address has no user, token or query.",
            hint=f"Put the token into {TOKEN} or a file named by {TOKEN_FILE}.",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CarbontrackError(f"{where} {shown}: not an http or https address.", hint=_EXAMPLE)
    https = parts.scheme == "https"
    if not https and parts.hostname not in _LOOPBACK and not insecure:
        raise CarbontrackError(
            f"{where} {shown}: http would send the token in clear text.",
            hint="Use https, or give --insecure if the network between is trusted.",
        )
    standard = 443 if https else 80
    return Address(https, parts.hostname, port or standard, parts.path.rstrip("/"))


def token_of(environ: Mapping[str, str]) -> str:
    """The token: the variable's, or the content of the file that the other variable names.

    Raises CarbontrackError if there is none, or the file cannot be read.
    """
    secret = environ.get(TOKEN, "").strip()
    if secret:
        return _checked(secret, TOKEN)
    if not (file := environ.get(TOKEN_FILE, "")):
        raise CarbontrackError(
            "there is no token to ship with.",
            hint=f"Set {TOKEN}, or {TOKEN_FILE} to a file with it. "
            "Make one: carbontrack collect token add PROJECT",
        )
    from carbontrack.files import read_regular

    try:
        content = read_regular(os.path.expanduser(file), _MAX_TOKEN_BYTES)  # noqa: PTH111
    except OSError as error:
        raise CarbontrackError(f"{TOKEN_FILE} {file}: {error.strerror or error}.") from None
    return _checked(content.decode("ascii", "replace").strip(), TOKEN_FILE)


def _checked(secret: str, origin: str) -> str:
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise CarbontrackError(f"{origin} holds no token.", hint="It is one word of ASCII.")
    return secret


def settings_of(url: str | None, *, insecure: bool = False) -> dict[str, Any]:
    """The settings of a plan that ships to this URL of --ship, if to any.

    Raises CarbontrackError, before anything is started, for what cannot be shipped to. What else
    names a collector, $CARBONTRACK_SHIP or a file, is the recorder's matter: it is set for all jobs
    of a cluster, and a mistake in it must keep none from starting.
    """
    if url is not None:
        if not url:
            raise CarbontrackError("--ship is empty: is a variable unset?", hint=_EXAMPLE)
        address(url, insecure=insecure)
        token_of(os.environ)
        check_seconds(os.environ)
    given = {
        "ship": url,
        "ship_insecure": insecure,
        "ship_token": os.environ.get(TOKEN),
        "ship_token_file": os.environ.get(TOKEN_FILE),
    }
    return {name: value for name, value in given.items() if value}


def named(
    flag: str | None, settings: Mapping[str, Any], option: str = "--ship"
) -> tuple[str, str] | None:
    """The collector's URL and where that stands: in the option, the variable, or a file of the
    `config.Settings`; None if there is none.
    """
    if flag is not None:
        return flag, option
    if url := os.environ.get(URL):
        return url, URL
    found = settings.get("ship")
    return None if found is None else (found.value, f"{found.origin}: ship")


def check_seconds(environ: Mapping[str, str]) -> None:
    """Raise CarbontrackError for an age that is none: what is to stay here may not be shipped."""
    if not (setting := environ.get(SECONDS)):
        return
    from carbontrack.keys import BY_NAME

    try:
        BY_NAME["ship_seconds"].parse(setting)
    except ValueError as error:
        raise CarbontrackError(f"{SECONDS} {setting!r}: {error}.") from None
