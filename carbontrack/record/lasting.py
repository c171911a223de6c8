"""What a recorder may need of a job that lasts, and which one that ends at once does not wait for.

Imported as soon as the recorder has written for the first time: a job may go on for a month, and
the package be upgraded or removed meanwhile.
"""

import statistics  # noqa: F401 - of `account.sanity`

import carbontrack.encoding
import carbontrack.ledger.journals
import carbontrack.ledger.kept_overlaps
import carbontrack.record.guest
import carbontrack.record.step_lines  # noqa: F401
