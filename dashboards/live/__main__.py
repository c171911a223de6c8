"""`python -m dashboards.live RUN URL`: the live page beside one run, until our stdin ends.

`carbontrack run --live` starts it and holds the other end of that pipe, which closes with it.
"""

from __future__ import annotations

import sys

from carbontrack import config
from carbontrack.errors import CarbontrackError
from dashboards.live import server


def main() -> None:
    run_id, url = sys.argv[1:]
    try:
        server.serve_beside(url, config.flags(), run_id)
    except CarbontrackError as error:
        print(f"carbontrack: no live page: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


main()
