"""Files of TOML, which a person or a program wrote: bounded, and their mistakes one line."""

from __future__ import annotations

import os
import tomllib
from typing import Any

from sfxjax.errors import UserError
from sfxjax.files import read_bounded

MOST_TOML_BYTES = 2**24


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of TOML.

    Raises:
        UserError: it cannot be read, is none, or is absurdly long or nested.
    """
    try:
        return tomllib.loads(read_bounded(path, MOST_TOML_BYTES, "TOML file").decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file ({error})") from error
    except RecursionError:
        raise UserError(f"{path}: not a TOML file of ours (it is nested too deeply)") from None
