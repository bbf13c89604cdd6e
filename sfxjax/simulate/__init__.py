"""Simulated sets of frames: `python -m sfxjax.simulate`."""
