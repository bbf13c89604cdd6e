"""Screens a run by a trained model, from its files to lists and a report, and talks to the terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from sfxjax.compilation import keep_compiled, said_compiling
from sfxjax.crop import CROP
from sfxjax.data.frames import describe_all
from sfxjax.data.geometry_file import read_geometry
from sfxjax.data.hits_file import line_of_lacking
from sfxjax.data.inputs import Inputs, find_files
from sfxjax.devices import device_line, free_memory
from sfxjax.errors import UserError
from sfxjax.evaluation.recall import threshold_for_recall, validation_frames
from sfxjax.files import atomic_write
from sfxjax.interrupts import last_words
from sfxjax.models.checkpoint import TrainedModel, load_model
from sfxjax.screen.doubtful import equal_scores, strange_frames
from sfxjax.screen.left_out import line_of_crops
from sfxjax.screen.lists import (
    ERROR,
    FOR_DIALS,
    HIT,
    MISS,
    existing,
    index_commands,
    labels,
    lost_lines,
    remove_outputs,
    write_lists,
)
from sfxjax.screen.options import ScreenOptions, ScreenTask
from sfxjax.screen.pipeline import Screening
from sfxjax.screen.report import Findings, class_means, write_class_means, write_report
from sfxjax.screen.screening_progress import ScreeningProgress
from sfxjax.screen.sources import without_names
from sfxjax.screen.summary import ResultSummary, rate_of_scores, rates_by_block, write_summary
from sfxjax.text import counted, say

EXIT_FRAMES_FAILED = 1
# How often growing files and other processes are looked at, and the lists of a growing run are renewed.
POLL_SECONDS = 1.0
LIST_SECONDS = 30.0
# Renewing them takes at most this share of the time.
LIST_SHARE = 0.1
# Memory of a frame of a batch, with the batches under way before and after it, and of a reader with the frames it holds ready.
FRAME_BYTES = 4 * CROP * CROP * 4
READER_BYTES = 120 * 2**20


def screen_run(task: ScreenTask, join: Callable[[], tuple[int, int]] = lambda: (0, 1)) -> int:
    """Screen a run.

    Args:
        task: what to screen and how.
        join: joins the processes that share the screening, once the task is known to make sense; returns the number of this one
            and how many there are.

    Returns:
        The exit status: 1 if frames could not be screened, else 0.

    Raises:
        UserError: nothing can be screened.
    """
    inputs = _first_files(task)
    read = replace(task.read, growing=task.follow is not None)
    check_memory(task.batch_size, task.readers, free_memory())
    if read.geometry is not None:
        read_geometry(read.geometry)  # Its mistakes are told here, not by a reader.
    process = join()
    kept = keep_compiled(task.compilation_cache)
    model = load_model(task.model, reduction=task.reduction)
    say(device_line())
    threshold, decided = _chosen_threshold(task, model)
    chosen = ScreenOptions(
        inputs.files,
        task.out,
        read,
        task.batch_size,
        task.readers,
        process,
        inputs.notes,
        threshold,
        task.overwrite,
    )
    with Screening(model, chosen, say) as screening:
        _open(screening, task)
        lists = partial(write_lists, task.out, screening.run, threshold)
        with last_words(lists), ScreeningProgress(screening, threshold) as progress:
            if task.follow is None:
                with said_compiling(kept is not None) as progress.first:
                    screening.score(progress.done)
            else:
                renew = partial(write_everything, screening, model, threshold, decided, task)
                _follow(screening, renew, task, task.follow, progress)
            if process[0] == 0:
                _wait_for_others(screening, progress)
        if process[0] > 0:
            say(f"process {process[0]} has done its part; process 0 writes the lists")
            return 0
        return write_everything(screening, model, threshold, decided, task)


def check_memory(batch_size: int | None, readers: int | None, free: int | None) -> None:
    """Refuse more than the machine's memory holds.

    Args:
        batch_size: frames scored at once; None: chosen to fit.
        readers: processes; None: likewise.
        free: bytes of memory; None: not known.

    Raises:
        UserError: batches or readers need more.
    """
    for option, count, each in (
        ("--batch-size", batch_size, FRAME_BYTES),
        ("--readers", readers, READER_BYTES),
    ):
        if count is not None and free is not None and count * each > free:
            raise UserError(
                f"{option} {count} needs about {count * each / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free; "
                f"give {max(free // each, 1)} or fewer"
            )


def _first_files(task: ScreenTask) -> Inputs:
    """Find the files; where they are still to be written, wait for the first."""
    started = time.monotonic()
    while True:
        try:
            return find_files(task.files)
        except UserError:
            if task.follow is None or time.monotonic() - started > task.follow:
                raise
        time.sleep(min(POLL_SECONDS, task.follow / 4))


def _open(screening: Screening, task: ScreenTask) -> None:
    """Open the run; while it is still being written, wait for its first frame."""
    started = time.monotonic()
    while True:
        try:
            return screening.open()
        except UserError:
            if task.follow is None or time.monotonic() - started > task.follow:
                raise
        time.sleep(POLL_SECONDS)


def _follow(
    screening: Screening,
    renew: Callable[[], object],
    task: ScreenTask,
    quiet: float,
    progress: ScreeningProgress,
) -> None:
    """Score what comes until it has been quiet for so many seconds, with lists and a report that are renewed on the way."""
    last_news = written = time.monotonic()
    due = last_news + LIST_SECONDS
    while time.monotonic() - last_news < quiet:
        before = screening.left()
        screening.score(progress.done, final=False)
        now = time.monotonic()
        if screening.left() < before:
            last_news = now
        if now > due and last_news > written:
            renew()
            written = now
            due = time.monotonic() + max(LIST_SECONDS, (time.monotonic() - now) / LIST_SHARE)
        time.sleep(min(POLL_SECONDS, quiet / 4))
        screening.renew_files(find_files(task.files, waiting=True))
        frames = len(screening.run)
        if screening.find_frames() > frames:
            last_news = time.monotonic()
        screening.check_files()
        screening.find_bad_pixels()
        progress.update_total()
    screening.score(progress.done)


def _wait_for_others(screening: Screening, progress: ScreeningProgress) -> None:
    """Wait until the other processes have screened their frames."""
    left = screening.left()
    while left:
        time.sleep(POLL_SECONDS)
        screening.collect()
        now = screening.left()
        progress.done(left - now, np.empty(0, np.float32))
        left = now


def write_everything(
    screening: Screening, model: TrainedModel, threshold: float, decided: str, task: ScreenTask
) -> int:
    """Write lists, pictures and summary of a run that has been scored; returns the exit status.

    Args:
        screening: that has scored it.
        model: with which.
        threshold: score from which a frame is a hit.
        decided: how that was chosen, in words.
        task: what was to be done.
    """
    out = task.out
    run = screening.run
    scores = run.scores()
    named = labels(scores, threshold)
    written = ["frames.csv", "hits.lst", "misses.lst", "hits.expt", FOR_DIALS, "summary.json"]
    written += ["hits.cxi"] if task.write_hits else []
    written += ["class_means.h5", "report.html"] if task.report else []
    if screening.journal is not None and screening.journal.renewed:
        remove_outputs(out, written)
    for line in write_lists(out, run, threshold):
        say(line)
    run.left_out = line_of_crops(screening)
    for line in run.value_lines():
        say(line)
    warnings = [*equal_scores(scores), *strange_frames(screening.run.statistics(), model)]
    for line in warnings:
        say(line)
    counts = {label: int(np.sum(named == label)) for label in (HIT, MISS, ERROR)}
    scored = counts[HIT] + counts[MISS]
    share = 100 * counts[HIT] / max(scored, 1)
    verdict = f"{counts[HIT]} hits among {scored} frames ({share:.1f} %) at the threshold {threshold:.4g}"
    reasons = Counter(reason for stack in run.stacks for reason in run.results.reasons(stack).values())
    summary = ResultSummary(
        counts[HIT],
        counts[MISS],
        counts[ERROR],
        rate_of_scores(counts[HIT], scores[~np.isnan(scores)]),
        str(task.model),
        threshold,
        decided,
        ", ".join(task.files),
        files=describe_all([stack for stack in run.stacks if stack.file not in run.failed]),
        unreadable=run.failed,
        masks=run.masks,
        values_left_out=run.value_lines(),
        bad_pixels=run.bad_pixels,
        notes=[*screening.notes, *run.notes()],
        warnings=warnings,
        hit_rate_over_the_run=rates_by_block(named),
    )
    write_summary(out, summary)
    there = np.where(run.there(), named, ERROR)
    if task.write_hits:
        _write_hits(screening, scores, there)
    if task.report:
        means = class_means(screening, there)
        write_class_means(out / "class_means.h5", means)
        facts = _facts(screening, model, task, verdict, decided, counts)
        findings = Findings("Screening of a run", threshold, scores, named, facts, warnings, reasons)
        write_report(out / "report.html", screening, findings, means)
    say(verdict)
    say(f"written to {out}: {', '.join(existing(out, written))}")
    lost = run.lost()
    for line in lost_lines(without_names(lost), int(np.sum((named == HIT) & (there != HIT)))):
        say(line)
    if HIT in there:
        by_crystfel, by_dials = index_commands(out, task.read.geometry)
        say(f"next: {by_crystfel}")
        say(f"or, by DIALS: {by_dials}")
    if counts[ERROR]:
        failed = f"{counts[ERROR]} of {counted(len(scores), 'frames')} could not be screened"
        print(f"{failed}; {out / 'frames.csv'} says why", file=sys.stderr)
    return EXIT_FRAMES_FAILED if counts[ERROR] or lost else 0


def _chosen_threshold(task: ScreenTask, model: TrainedModel) -> tuple[float, str]:
    """Return the threshold and how it was chosen, in words."""
    if task.recall is not None:
        found = threshold_for_recall(*validation_frames(model.trained_on), task.recall)
        decided = (
            f"recall at least {found.bound:.4f} with 95 % confidence "
            f"({100 * found.recall:.2f} % of {found.positives} labelled positives), "
            f"keeping {100 * found.kept:.1f} % of the validation frames, for runs like these"
        )
        say(f"threshold {found.threshold:.4g}: {decided}")
        return found.threshold, decided
    threshold = model.threshold if task.threshold is None else task.threshold
    if not 0 <= threshold <= 1:
        raise UserError(f"a threshold of {threshold} makes no sense: scores run from 0 to 1")
    return float(threshold), "the model's" if task.threshold is None else "given by --threshold"


def _write_hits(screening: Screening, scores: np.ndarray, named: np.ndarray) -> None:
    places = np.flatnonzero(named == HIT)
    if not len(places):
        # One of an earlier screening does not stay.
        (screening.options.out / "hits.cxi").unlink(missing_ok=True)
        say("no hits: hits.cxi is not written")
        return
    frames = list(screening.run.frames())
    chosen = [frames[place] for place in places]
    out = screening.options.out
    with atomic_write(out / "hits.cxi") as path:
        left_out = screening.readers.write_hits(
            path, chosen, places.tolist(), [float(scores[place]) for place in places]
        )
    if left_out:
        say(line_of_lacking(left_out))


def _facts(
    screening: Screening,
    model: TrainedModel,
    task: ScreenTask,
    verdict: str,
    decided: str,
    counts: dict[str, int],
) -> list[tuple[str, str]]:
    files = describe_all(screening.run.stacks)
    shown = files if len(files) <= 10 else [*files[:9], f"and {len(files) - 9} more"]
    facts = [("Result", verdict), ("Threshold", decided), ("Frames", "; ".join(shown))]
    facts.append(("Model", str(task.model)))
    if "simulated" in str(model.trained_on.get("simulated", "")) or model.trained_on.get("simulated") is True:
        names = model.trained_on.get("simulated_sets")
        which = f" of {', '.join(map(str, names))}" if isinstance(names, list) else ""
        facts.append(("Trained on", f"simulated set frames{which}"))
    run = screening.run
    facts.append(("Masks", "; ".join(run.masks[:6]) or "none in the files, and none given"))
    facts += [("Values left out", line) for line in run.value_lines()]
    if run.bad_pixels:
        facts.append(("Bad pixels", run.bad_pixels))
    facts += [("Note", note) for note in (*screening.notes, *run.notes())[:10]]
    facts += [("Not read", f"{name}: {why}") for name, why in list(without_names(run.failed).items())[:10]]
    if counts[ERROR]:
        facts.append(("Not screened", f"{counts[ERROR]} frames"))
    if counts[HIT]:
        facts += [("Index the hits", command) for command in index_commands(task.out, task.read.geometry)]
    return facts
