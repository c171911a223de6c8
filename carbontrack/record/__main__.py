"""`python -m carbontrack.record`: the recorder's process, which the wrapper starts."""

import gc

gc.disable()  # what is imported until the ledger is open all stays: a fifth of its time

from carbontrack.search_path import take_handed_on  # noqa: E402

take_handed_on()

from carbontrack.record.recorder import main  # noqa: E402

main()
