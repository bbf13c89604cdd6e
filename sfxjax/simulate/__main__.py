"""Run `python -m sfxjax.simulate`."""

from __future__ import annotations

import sys

from sfxjax.errors import run_main
from sfxjax.simulate.command import main

if __name__ == "__main__":
    sys.exit(run_main(main))
