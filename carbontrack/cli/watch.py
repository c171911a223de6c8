"""`carbontrack watch`: record a node, whatever runs on it."""

from __future__ import annotations

from carbontrack.cli.record_options import Settings, need_ledger, takes_watching


@takes_watching
def watch(settings: Settings) -> None:
    """Record this node until SIGTERM or Ctrl-C, so that tables can show what no job used.

    A run a month, which goes on when the command is started again. Needs NVML or RAPL.

    Example: carbontrack watch --meter nvml,rapl --ship https://collector.example:8477
    """
    from carbontrack.record.watch import watch as until_stopped

    need_ledger(settings)
    until_stopped(settings)
