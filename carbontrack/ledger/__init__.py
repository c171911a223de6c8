"""The ledger: what was recorded, in a SQLite file or in PostgreSQL. All SQL is in this folder."""

HEAD = "1002"
"""The newest revision of `migrations/`; a test holds the two together."""

PRE_RELEASES = ("0001", "0002")
"""Revisions of which no released program has made a ledger."""

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another one, if it does not say."""

KEEP = "1s:7d,60s:90d"
"""How long a team's ledger keeps seconds and minutes, unless one says otherwise: see `kept`."""
