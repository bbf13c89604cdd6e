"""Carries out what the command `python -m sfxjax.screen` asks for, and talks to the terminal."""

from __future__ import annotations

import argparse
import sys

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfxjax.errors import UserError
from sfxjax.input_files import expand
from sfxjax.screen_outputs import ERROR, HIT, labels, write_lists
from sfxjax.screening import Screening, ScreenOptions
from sfxjax.sources import ReadOptions
from sfxjax.storage import load_model

EXIT_FRAMES_FAILED = 1


def screen_run(options: argparse.Namespace) -> int:
    """Screen a run.

    Args:
        options: of the command line, see `sfxjax.screen`.

    Returns:
        The exit status: 1 if frames could not be screened, else 0.

    Raises:
        UserError: nothing can be screened.
    """
    files = expand(options.files)
    read = ReadOptions(
        dataset=options.dataset,
        mask=options.mask,
        mask_good=options.mask_good,
        good_bits=options.good_bits,
        bad_bits=options.bad_bits,
        geometry=options.geometry,
        centre=options.beam_centre,
        allow_links=options.allow_links,
    )
    model = load_model(options.model)
    threshold = model.threshold if options.threshold is None else options.threshold
    if not 0 <= threshold <= 1:
        raise UserError(f"a threshold of {threshold} makes no sense: scores run from 0 to 1")
    chosen = ScreenOptions(tuple(files), options.out, read, options.batch_size, options.readers)
    with Screening(model, chosen, _say) as screening:
        screening.open()
        _score(screening, threshold)
        complaints = write_lists(options.out, screening.run, threshold)
    for line in complaints:
        _say(line)
    return _summarize(screening, threshold)


def _score(screening: Screening, threshold: float) -> None:
    scores = screening.run.scores()
    counts = {"hits": int(np.sum(scores >= np.float32(threshold))), "scored": int(np.sum(~np.isnan(scores)))}
    total = len(screening.run)
    known = sum(screening.run.results.is_done(source, number) for source, number in screening.run.frames())
    columns = (
        TextColumn("screening"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[hits]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=known, rate="", hits="")

        def done(count: int, new: np.ndarray) -> None:
            counts["hits"] += int(np.sum(new >= np.float32(threshold)))
            counts["scored"] += int(np.sum(~np.isnan(new)))
            speed = progress.tasks[0].speed
            rate = f"{speed:.0f} frames/s" if speed else ""
            share = f"{100 * counts['hits'] / max(counts['scored'], 1):.1f} % hits"
            progress.update(task, advance=count, rate=rate, hits=share)

        screening.score(done)


def _summarize(screening: Screening, threshold: float) -> int:
    scores = screening.run.scores()
    named = labels(scores, threshold)
    hits, failed = int(np.sum(named == HIT)), int(np.sum(named == ERROR))
    scored = len(scores) - failed
    share = 100 * hits / max(scored, 1)
    _say(f"{hits} hits among {scored} frames ({share:.1f} %) at the threshold {threshold:.4g}")
    if failed:
        print(
            f"{failed} of {len(scores)} frames could not be screened; "
            f"{screening.options.out / 'frames.csv'} says why",
            file=sys.stderr,
        )
    _say(f"written to {screening.options.out}: frames.csv, hits.lst, misses.lst, hits.expt")
    return EXIT_FRAMES_FAILED if failed else 0


def _say(line: str) -> None:
    print(line.encode("utf-8", "replace").decode(), flush=True)
