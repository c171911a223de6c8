"""Collects what nodes ship into a team's ledger, over HTTP."""
