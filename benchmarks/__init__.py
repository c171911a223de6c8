"""Side by side with the peers: one file a question, `make bench` asks them all.

    python -m benchmarks [QUESTION ...] [--quick]

Every answer is a table in RESULTS.md and, with full precision, in results.json.
"""
