"""How torch's threads wait for each other on a CPU. Imports nothing, for it comes before torch."""

from __future__ import annotations

WAITING = {"GOMP_SPINCOUNT": "3000"}
"""Environment for GNU OpenMP, which reads it once, when torch loads it.

Its default is to wait awake for milliseconds. That doubles a step on a CPU that others use too: the
waiting thread holds the core that the one it waits for needs. To sleep at once costs a twentieth of
a step on a CPU that is free, and a third of a small model's. Awake for some 0.1 ms does neither.
"""
