"""The command `carbontrack`, and `python -m carbontrack`."""

from __future__ import annotations

import sys


def main() -> None:
    """Start what `run` needs beside us, then read the command line, for which much is imported."""
    if sys.argv[1:2] != ["run"]:
        _commands()
        return
    from carbontrack.record import prestart

    prestart.prepare()
    try:
        _commands()
    finally:
        prestart.discard()


def _commands() -> None:
    from carbontrack import cli

    cli.main()


if __name__ == "__main__":
    main()
