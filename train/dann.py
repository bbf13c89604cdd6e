"""Run `python -m train.dann`; see `sfxjax.training.dann`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.training.dann import main

if __name__ == "__main__":
    sys.exit(run_main(main))
