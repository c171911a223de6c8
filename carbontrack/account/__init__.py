"""Estimates: energy, carbon and money from usage and factors, and how they add up. Pure."""
