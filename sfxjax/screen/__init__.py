"""Screening a run: `python -m sfxjax.screen FILES --model RUN --out DIR`."""
