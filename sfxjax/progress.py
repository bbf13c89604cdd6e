"""Progress of long work, a bar on a terminal, a line now and then elsewhere; and tables as wide as a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_LINE_EVERY = 10.0  # seconds
STEADY_SECONDS = 1.0


def on_terminal() -> bool:
    """Tell whether a terminal shows what is printed; a process can be without an output."""
    return sys.stdout is not None and sys.stdout.isatty()


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, elsewhere of 160 characters."""
    from rich.console import Console

    Console(width=None if on_terminal() else 160).print(table)


@contextmanager
def progress(
    description: str, total: int, unit: str = "frames", *, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show how far a piece of work is, with its speed and the time left.

    Args:
        description: what is being done.
        total: how many units there are.
        unit: of what.
        quiet: show nothing.

    Yields:
        A function to call with the number of units just done.
    """
    if quiet:
        yield lambda count: None
    elif on_terminal():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        texts = ("[progress.description]{task.description}", "{task.fields[speed]}")
        with Progress(
            TextColumn(texts[0]),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(texts[1]),
            TimeRemainingColumn(),
        ) as bar:
            task = bar.add_task(description, total=total, speed="")
            counter = _Counter(total)

            def advance(count: int) -> None:
                done, speed = counter.add(count)
                bar.update(task, completed=done, speed="" if speed is None else per_second(speed, unit))

            yield advance
    else:
        yield _printed_progress(description, total, unit)


def per_second(speed: float, unit: str = "frames") -> str:
    """Return a speed in words, of slow work with the digits that tell it from none.

    Args:
        speed: units a second.
        unit: of what.
    """
    return f"{speed:.0f} {unit}/s" if speed >= 10 else f"{speed:.2g} {unit}/s"


class _Counter:
    """Counts what is done, and how many a second; of the first, with which programs are compiled, no speed is made."""

    def __init__(self, total: int) -> None:
        self._done, self._total = 0, total
        self._start = time.monotonic()
        self._first: float | None = None
        self._since = (0, self._start)

    def add(self, count: int) -> tuple[int, float | None]:
        """Return what is done by now, and how many a second, at the end over all; None before it is steady."""
        now = time.monotonic()
        self._done += count
        self._first = now if self._first is None else self._first
        if self._done >= self._total:
            return self._done, self._done / max(now - self._start, 1e-9)
        # What waited for the same program comes at once with the first.
        if now - self._first < STEADY_SECONDS:
            self._since = self._done, now
        done, since = self._done - self._since[0], now - self._since[1]
        return self._done, done / since if since >= STEADY_SECONDS else None


def _printed_progress(description: str, total: int, unit: str) -> Callable[[int], None]:
    counter, last = _Counter(total), time.monotonic()

    def advance(count: int) -> None:
        nonlocal last
        done, speed = counter.add(count)
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY or done == total:
            last = now
            pace = "no speed yet"
            if speed is not None:
                pace = f"{per_second(speed, unit)}, {(total - done) / max(speed, 1e-9):.0f} s left"
            print(f"{description}: {done} of {total} {unit}, {pace}", flush=True)

    return advance
