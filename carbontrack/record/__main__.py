"""`python -m carbontrack.record`: the recorder's process, which the wrapper starts."""

from carbontrack.record.recorder import main

main()
