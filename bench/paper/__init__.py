"""The paper's tables and figures, ours beside them, on one page: `python -m bench.paper`."""
