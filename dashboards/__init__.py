"""Figures of what was recorded. They read the ledger through the same queries as the tables."""
