"""Run `python -m train.adapt`; see `sfxjax.training.adapt`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.training.adapt import main

if __name__ == "__main__":
    sys.exit(run_main(main))
