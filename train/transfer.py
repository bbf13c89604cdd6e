"""Run `python -m train.transfer`; see `sfxjax.training.transfer`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.training.transfer import main

if __name__ == "__main__":
    sys.exit(run_main(main))
