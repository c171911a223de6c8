"""Answers from a ledger: runs selected, priced and grouped."""
