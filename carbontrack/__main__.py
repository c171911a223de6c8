"""The command `carbontrack`, and `python -m carbontrack`."""

from __future__ import annotations

import sys


def main() -> None:
    """Start the job of a plain `run` at once; else read the command line, for which much is
    imported.
    """
    is_run = sys.argv[1:2] == ["run"]
    try:
        from carbontrack.search_path import put_jobs_folders_last

        put_jobs_folders_last()
        from carbontrack.record.warning import hold_stderr

        hold_stderr()
        if is_run:
            from carbontrack.record.plain_job import restore_environment

            restore_environment()
            _run()
        _commands()
    except Exception as error:  # a fault of ours, for what a user gets wrong ends in SystemExit
        if not is_run:
            raise
        _run_unrecorded(error)


def _run() -> None:
    """Returns where the parser has to read the command line."""
    from carbontrack.cli import plain_run
    from carbontrack.cli.recording import settings_of
    from carbontrack.errors import CarbontrackError
    from carbontrack.record import launch

    try:
        if (plain := plain_run.read(sys.argv[2:])) is None:
            return
        command, given = plain
        settings = settings_of(**given)
    except CarbontrackError as error:
        from carbontrack.cli.app import fail

        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    launch.run(command, settings)


def _run_unrecorded(error: Exception) -> None:
    """Run the job all the same; the launcher raises nothing once it has started it."""
    from carbontrack.record.plain_job import hide_secrets, replace_us
    from carbontrack.record.warning import warn

    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    if not command:
        raise error
    warn(f"this run is not recorded: {type(error).__name__}: {error}.")
    hide_secrets()
    replace_us(command)


def _commands() -> None:
    from carbontrack.cli import app

    app.main()


if __name__ == "__main__":
    main()
