"""Zeus has no wrapper for a command; this is its documented measurement window around one.

Run by the peers' Python: `zeus_window.py RESULT COMMAND...`.
"""

import json
import subprocess
import sys
from pathlib import Path

from zeus.monitor import ZeusMonitor

monitor = ZeusMonitor(cpu_indices=[])
monitor.begin_window("job", sync_execution=False)
code = subprocess.run(sys.argv[2:], check=False).returncode
energy_j = monitor.end_window("job", sync_execution=False).gpu_energy
Path(sys.argv[1]).write_text(json.dumps({str(gpu): joule for gpu, joule in energy_j.items()}))
sys.exit(code)
