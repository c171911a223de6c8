"""`python -m dashboards.live`: the live page beside one run, until our stdin ends.

`carbontrack run --live` starts it and holds the other end of that pipe, which closes with it. The
first line says which run of which ledger: its address holds a password, and every user of the
machine can read a command line.
"""

from __future__ import annotations

import json
import sys

from carbontrack.search_path import take_handed_on

take_handed_on()

from carbontrack import config  # noqa: E402
from carbontrack.errors import CarbontrackError  # noqa: E402
from carbontrack.record.warning import warn  # noqa: E402
from dashboards.live import server  # noqa: E402


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the wrapper has ended before it could say what to serve
    page = json.loads(line)
    try:
        server.serve_beside(page["db"], config.flags(), page["run_id"])
    except CarbontrackError as error:
        warn(f"no live page: {error}")
        sys.exit(error.exit_code)


main()
