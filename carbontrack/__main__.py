"""The command `carbontrack`, and `python -m carbontrack`."""

from __future__ import annotations

import sys


def main() -> None:
    """Start what `run` needs beside us, then read the command line, for which much is imported."""
    from carbontrack.search_path import put_jobs_folders_last

    put_jobs_folders_last()
    if sys.argv[1:2] != ["run"]:
        _commands()
        return
    from carbontrack.record import prestart

    prestart.prepare()
    try:
        _commands()
    except Exception as error:  # a fault of ours, for what a user gets wrong ends in SystemExit
        prestart.discard()
        _run_unrecorded(error)
    finally:
        prestart.discard()


def _run_unrecorded(error: Exception) -> None:
    """Run the job all the same; the launcher raises nothing once it has started it."""
    import os

    from carbontrack.record.warning import warn

    if "--" not in sys.argv:
        raise error
    warn(f"this run is not recorded: {type(error).__name__}: {error}.")
    command = sys.argv[sys.argv.index("--") + 1 :]
    try:
        os.execvp(command[0], command)
    except OSError as unusable:
        warn(f"{command[0]}: {unusable.strerror}.")
        os._exit(127)


def _commands() -> None:
    from carbontrack import cli

    cli.main()


if __name__ == "__main__":
    main()
