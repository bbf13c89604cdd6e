"""Files of JSON, which may come from elsewhere: bounded, finite, and their numbers checked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

# Of a file, bytes: the longest, a model's description with its validation frames, has some million.
MOST_JSON_BYTES = 2**27


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, absurdly long or nested, or holds a number that is not finite.
    """
    if path.stat().st_size > MOST_JSON_BYTES:
        raise ValueError(f"it has more than {MOST_JSON_BYTES} bytes")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Return what a text of JSON holds.

    Raises:
        ValueError: as `read_json`.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def checked_number(value: Any, name: str, least: float, most: float) -> float:
    """Return a number that JSON holds.

    Args:
        value: as it was read.
        name: of it, for the message.
        least: that makes sense.
        most: likewise.

    Raises:
        ValueError: it is no number, or not from `least` to `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} is {shown_value(value)}, and no number from {least:g} to {most:g}")
    return float(value)


def shown_value(value: Any) -> str:
    """Return a value for a message, cut short where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Of integers of many thousand digits, and of deep nesting.
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _no_number(text: str) -> float:
    raise ValueError(f"{text[:40]} is no finite number")


def _finite_number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)
