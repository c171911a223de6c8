"""Meters: what can say how much energy a device used, one folder or file a kind."""

AUTO = "auto"
"""The spec of the first meter that works here."""
