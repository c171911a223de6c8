"""Importers: the files of other tools become runs of the ledger, each kind in a file of its own."""
