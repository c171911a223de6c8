"""The ledger: what was recorded, in a SQLite file or in PostgreSQL. All SQL is in this folder."""

HEAD = "0002"
"""The newest revision of `migrations/`; a test holds the two together."""

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another one, if it does not say."""
