"""Run `python -m train.supervised`; see `sfxjax.training.supervised`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.training.supervised import main

if __name__ == "__main__":
    sys.exit(run_main(main))
