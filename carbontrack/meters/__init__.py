"""Meters: what can say how much energy a device used, one folder or file a kind."""
