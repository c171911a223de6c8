"""Meters: everything that says how much energy a device used, each as a list of sources."""
