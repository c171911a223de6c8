"""Emission, price and hardware factors: shipped, imported or fetched, each with its source."""
