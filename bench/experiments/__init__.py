"""Experiments beside the paper's tables: each writes a record and a page under `bench/results/`."""
