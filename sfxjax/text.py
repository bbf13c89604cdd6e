"""Names and reasons as they are shown: nothing in them can rewrite a terminal, begin a formula or fill a screen.

File, group and data set names come from whoever wrote the files. In messages, reports and tables characters that are not printed
are escaped as Python escapes them; lists for other programs hold no such names.
"""

from __future__ import annotations

import re

# Of a message, characters.
LONGEST_MESSAGE = 2000
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """Return a text with every character escaped that is not printed, line breaks and undecodable bytes of names too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def message_line(text: str) -> str:
    """Return a text as one printable line; of a long one beginning and end, where reason and advice stand."""
    line = printable(
        re.sub(
            r"\s*[\r\n]+\s*", " ", text[: LONGEST_MESSAGE * 4] if len(text) > LONGEST_MESSAGE * 8 else text
        )
    )
    if len(line) <= LONGEST_MESSAGE:
        return line
    return f"{line[: 3 * LONGEST_MESSAGE // 4]} ... {line[-LONGEST_MESSAGE // 4 + 5 :]}"


def table_cell(text: str) -> str:
    """Return a text as a table's cell: printable, and none that a spreadsheet would compute.

    Names that are no UTF-8 keep their bytes, for the programs that open these files.
    """
    shown = "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else printable(c) for c in text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def file_cell(name: str) -> str:
    """Return a file's name as `table_cell` does, but such that the file can still be opened by it."""
    return table_cell(f"./{name}" if name.startswith(_FORMULA) else name)
