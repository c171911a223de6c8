"""`python -m carbontrack.record`: the recorder's process, which the wrapper starts."""

import gc

gc.disable()  # what is imported until the ledger is open all stays: a fifth of its time

from carbontrack.record.recorder import main  # noqa: E402

main()
