"""Reductions of a normalised frame to a vector, one a file; `registry` knows them by name."""
