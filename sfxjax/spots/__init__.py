"""Bragg spots: candidates, and what tells them from noise."""
