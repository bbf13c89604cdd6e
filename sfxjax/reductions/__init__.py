"""Reductions of a normalised frame to a vector."""
