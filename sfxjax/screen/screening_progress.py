"""How far a screening by a model is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfxjax.progress import PLAIN_LINE_EVERY, per_second
from sfxjax.screen.pipeline import Screening


class ScreeningProgress:
    """The bar: frames done, frames a second, hit rate so far, time left.

    Attributes:
        first: called whenever frames are done, for whoever waits for the first.
    """

    def __init__(self, screening: Screening, threshold: float) -> None:
        self._screening, self._run = screening, screening.run
        self._threshold = np.float32(threshold)
        scores = screening.run.scores()
        self._hits, self._scored = int(np.sum(scores >= self._threshold)), int(np.sum(~np.isnan(scores)))
        self._bar = Progress(
            TextColumn("screening"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[hits]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        known = len(screening.run) - screening.left()
        self._task = self._bar.add_task("", total=len(screening.run), completed=known, rate="", hits="")
        self._said = time.monotonic()
        self.first: Callable[[], None] = lambda: None

    def __enter__(self) -> ScreeningProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update_total(self) -> None:
        """Take in that the run has grown, or that frames are to be scored again."""
        scores = self._run.scores()
        self._hits, self._scored = int(np.sum(scores >= self._threshold)), int(np.sum(~np.isnan(scores)))
        done = len(self._run) - self._screening.left()
        self._bar.update(self._task, total=len(self._run), completed=done)

    def done(self, count: int, scores: np.ndarray) -> None:
        """Take in that frames are done, with their scores as far as they are known."""
        self.first()
        self._hits += int(np.sum(scores >= self._threshold))
        self._scored += int(np.sum(~np.isnan(scores)))
        speed = self._bar.tasks[0].speed
        pace = per_second(speed) if speed else ""
        share = f"{100 * self._hits / max(self._scored, 1):.1f} % hits"
        self._bar.update(self._task, advance=count, rate=pace, hits=share)
        if not self._bar.console.is_terminal and time.monotonic() - self._said > PLAIN_LINE_EVERY:
            self._said = time.monotonic()
            done = int(self._bar.tasks[0].completed)
            print(
                f"screening: {done} of {len(self._run)} frames, {pace or 'no speed yet'}, {share}", flush=True
            )
