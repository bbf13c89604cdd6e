"""Run `python -m train.reduced`; see `sfxjax.training.reduced`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.training.reduced import main

if __name__ == "__main__":
    sys.exit(run_main(main))
