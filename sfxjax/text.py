"""Names and reasons as they are shown: nothing in them can rewrite a terminal, begin a formula or fill a screen.

File, group and data set names come from whoever wrote the files. In messages, reports and tables characters that are not printed
are escaped as Python escapes them; lists for other programs hold no such names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# Of a message, characters.
LONGEST_MESSAGE = 2000
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """Return a text with every character escaped that is not printed, line breaks and undecodable bytes of names too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def per_cent(share: float) -> str:
    """Return a share as per cent in two digits or as many as tell it from all, such as "6.1 %"."""
    value = 100 * share
    if 0 < value < 1e-4:
        return "less than 0.0001 %"
    return f"{value:.4g} %" if value >= 99 else f"{value:.2g} %"


def counted(number: int, things: str) -> str:
    """Return a number with what is counted, such as "1 file" of 1 and "files"."""
    return f"{number} {things.removesuffix('s') if number == 1 else things}"


def plus_minus(mean: float, deviation: float | None = None, digits: int = 1) -> str:
    """Return a mean with its standard deviation, such as "98.0 ± 0.5"; alone where it has none."""
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def first_few(names: Iterable[str], most: int = 6, *, between: str = ", ", things: str = "") -> str:
    """Return names as a list in words, such as "a, b and 3 more" where there are more than so many.

    Args:
        names: in the order shown.
        most: so many are named.
        between: what stands between two of them.
        things: what those not named are, if that has to be said.
    """
    listed = list(names)
    more = f" and {len(listed) - most} more{f' {things}' if things else ''}" if len(listed) > most else ""
    return between.join(listed[:most]) + more


def say(line: str) -> None:
    """Print a line that may hold names from elsewhere, at once."""
    print(printable(line), flush=True)


def message_line(text: str) -> str:
    """Return a text as one printable line; of a long one beginning and end, where reason and advice stand."""
    if len(text) > 2 * LONGEST_MESSAGE:
        text = f"{text[:LONGEST_MESSAGE]}{text[-LONGEST_MESSAGE:]}"
    line = printable(re.sub(r"\s*[\r\n]+\s*", " ", text))
    if len(line) <= LONGEST_MESSAGE:
        return line
    return f"{line[: 3 * LONGEST_MESSAGE // 4]} ... {line[-LONGEST_MESSAGE // 4 + 5 :]}"


def table_cell(text: str) -> str:
    """Return a text as a table's cell: printable, and none that a spreadsheet would compute.

    Names that are no UTF-8 keep their bytes, for the programs that open these files.
    """
    shown = text
    # Nearly all are, and lists have a few for each frame.
    if not text.isprintable():
        shown = "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else printable(c) for c in text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def table_row(row: Iterable[Any]) -> list[Any]:
    """Return a table's row with every text as `table_cell` has it; numbers, also those written as text, stay."""
    return [cell if not isinstance(cell, str) or _is_number(cell) else table_cell(cell) for cell in row]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text) is not None


def file_cell(name: str) -> str:
    """Return a file's name as `table_cell` does, but such that the file can still be opened by it."""
    return table_cell(f"./{name}" if name.startswith(_FORMULA) else name)
