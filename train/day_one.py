"""Run `python -m train.day_one`; see `sfxjax.training.day_one`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.training.day_one import main

if __name__ == "__main__":
    sys.exit(run_main(main))
