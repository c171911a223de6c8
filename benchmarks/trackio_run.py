"""Trackio has no wrapper for a command; this is a run of its around one, as the Trainer makes it.

Run by the peers' Python: `trackio_run.py COMMAND...`. Its GPU energy is read every 10 s, as is
its default, into its SQLite database under TRACKIO_DIR.
"""

import subprocess
import sys

import trackio

trackio.init(project="bench", embed=False)
code = subprocess.run(sys.argv[1:], check=False).returncode
trackio.finish()
sys.exit(code)
