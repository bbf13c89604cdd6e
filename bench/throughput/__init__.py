"""Frames per second by stage, beside the paper's and others' programs: `python -m bench.throughput`."""
