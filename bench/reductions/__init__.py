"""Reductions compared, and ways to adapt without labels: `python -m bench.reductions`."""
