"""Ours and the peer in one run: `python -m benchmarks.run`."""
