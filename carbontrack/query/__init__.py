"""Answers from a ledger: runs selected, priced, grouped, and as data frames."""
