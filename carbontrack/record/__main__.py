"""`python -m carbontrack.record`: the recorder's process, started by `carbontrack.record.launch`."""

from carbontrack.record.recorder import main

main()
