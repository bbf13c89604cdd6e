"""Which frames have been judged, by a bit each, and which numbers of a series never came."""

from __future__ import annotations

import re

from sfxjax.text import file_cell, table_cell

_EVENT = re.compile(r"(.*//)(\d{1,16})")
_PAGE_LENGTH = 4096


class Seen:
    """A set of frames, named by file and event, or by what stands for them in a table."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str, int], bytearray] = {}

    def add(self, file: str, event: str) -> None:
        """Add a frame."""
        key, byte, bit = _page_and_bit(file, event)
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = bytearray()
        # Pages grow as they are needed: a file of one frame takes one byte.
        if len(page) <= byte:
            page.extend(bytes(min(max(byte + 1, 2 * len(page)), _PAGE_LENGTH // 8) - len(page)))
        page[byte] |= bit

    def __contains__(self, frame: tuple[str, str]) -> bool:
        key, byte, bit = _page_and_bit(*frame)
        page = self._pages.get(key)
        return page is not None and byte < len(page) and bool(page[byte] & bit)


def _page_and_bit(file: str, event: str) -> tuple[tuple[str, str, int], int, int]:
    file, event = file_cell(file), table_cell(event)
    found = _EVENT.fullmatch(event)
    before, number = (found[1], int(found[2])) if found else (event, 0)
    return (file, before, number // _PAGE_LENGTH), number % _PAGE_LENGTH // 8, 1 << number % 8


class Lost:
    """Counts the numbers of a series that did not come, as far as they lie between those that did.

    Attributes:
        count: how many.
        series: that the last frame came from.
        expected: the number that comes next in it.
    """

    # Frames may overtake each other by so many numbers.
    LATE = 1024
    # So many numbers left out at once are no loss but a damaged or another count.
    MOST = 1_000_000

    def __init__(self, count: int = 0, series: str = "", expected: int = 0) -> None:
        self.count, self.series, self.expected = count, series, expected
        self._missing: set[int] = set()

    def came(self, series: str, number: int) -> None:
        """Take in that a frame came."""
        if series != self.series or number - self.expected > self.MOST:
            # A receiver that is started in the middle has lost nothing before.
            self.series, self.expected = series, number + 1
            self._missing.clear()
        elif number >= self.expected:
            gap = number - self.expected
            self.count += gap
            self._missing.update(range(max(self.expected, number - self.LATE), number))
            if len(self._missing) > 2 * self.LATE:
                self._missing = {one for one in self._missing if one >= number - self.LATE}
            self.expected = number + 1
        elif number in self._missing:
            self._missing.discard(number)
            self.count -= 1
