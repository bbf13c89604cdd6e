"""Files as they are, whether compressed by gzip or bzip2 or not."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import IO


def open_plain(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed where it is one of gzip or bzip2.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as stream:
        start = stream.read(3)
    if start[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return bz2.open(path, "rb") if start == b"BZh" else path.open("rb")
