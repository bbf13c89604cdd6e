"""What `summary.json` holds: the same keys whatever judged the frames, from files or from a stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.evaluation.metrics import rate
from sfxjax.files import atomic_write_json
from sfxjax.screen.lists import ERROR, HIT
from sfxjax.text import printable

BLOCKS = 100


@dataclass(frozen=True)
class ResultSummary:
    """A result in numbers and lines.

    Each attribute is a key of `summary.json`, which has `frames` besides, the sum of the first three.

    Attributes:
        hits: frames that are hits.
        misses: frames that are none.
        errors: frames that could not be read or judged.
        hit_rate: see `rate_of_scores` and `rate_of_sample`.
        model: what judged the frames, in words, or its folder.
        threshold: score from which a frame is a hit.
        threshold_is: how that was chosen, in words.
        source: what the command line named.
        min_snr: signal-to-noise ratio from which a spot is visible; None: spots are not counted.
        min_spots: visible spots from which a frame is a hit; None likewise.
        files: a line for each file that was read.
        unreadable: why files cannot be read, by their names.
        masks: lines about what leaves out how many pixels.
        values_left_out: lines about pixels that are left out by their values.
        bad_pixels: a line about pixels that were found bad and left out, empty if there are none.
        notes: what else is to be said of the files.
        warnings: what makes the result doubtful.
        hit_rate_over_the_run: see `rates_by_block`; None where frames go on to come.
        frames_that_came: of streams and followed files, where the frames that came are, see `FrameCounts`; else None.
        latency: of the same, seconds from a frame's arrival to its place in the lists, median and 99 %; else None.
        messages_left_out: of the same, how many messages or files could not be used, by what was wrong.
    """

    hits: int
    misses: int
    errors: int
    hit_rate: dict[str, Any]
    model: str
    threshold: float
    threshold_is: str
    source: str
    min_snr: float | None = None
    min_spots: int | None = None
    files: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    masks: list[str] = field(default_factory=list)
    values_left_out: list[str] = field(default_factory=list)
    bad_pixels: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hit_rate_over_the_run: list[dict[str, Any]] | None = None
    frames_that_came: dict[str, int] | None = None
    latency: dict[str, float] | None = None
    messages_left_out: dict[str, int] = field(default_factory=dict)


def write_summary(out: Path, summary: ResultSummary) -> None:
    """Replace `summary.json` in a folder; names in it are printable."""
    frames = summary.hits + summary.misses + summary.errors
    atomic_write_json(out / "summary.json", {"frames": frames, **_printable(asdict(summary))})


def rate_of_scores(hits: int, scores: np.ndarray) -> dict[str, Any]:
    """Sum up how many frames of a run are hits, ready for JSON.

    Args:
        hits: among the frames.
        scores: (n,) of those that could be judged.

    Returns:
        `hits` and `frames`, those that are errors apart; `percent`, `low` and `high`, the 95 % Wilson interval of the rate in a
        run of which these frames are a sample, None of no frame; `expected` and `deviation`: mean and standard deviation of the
        number of hits among these frames by the scores, as far as they are probabilities.
    """
    found = rate(hits, len(scores))
    percent = {name: None if value is None else 100 * value for name, value in asdict(found).items()}
    return {
        "hits": hits,
        "frames": len(scores),
        "percent": percent["value"],
        "low": percent["low"],
        "high": percent["high"],
        "expected": float(scores.sum()),
        "deviation": float(np.sqrt((scores * (1 - scores)).sum())),
    }


def rate_of_sample(hits: int, frames: int, value: float, low: float, high: float) -> dict[str, Any]:
    """Return the same of frames that were judged as a sample of those that came, whose scores are not kept.

    Args:
        hits: among the frames judged.
        frames: that were judged.
        value: the estimated rate, from 0 to 1.
        low: of its 95 % interval.
        high: likewise.
    """
    names = ("percent", "low", "high")
    percent = {name: 100 * x if frames else None for name, x in zip(names, (value, low, high), strict=True)}
    return {"hits": hits, "frames": frames, **percent, "expected": None, "deviation": None}


def rates_by_block(labels: np.ndarray, blocks: int = BLOCKS) -> list[dict[str, Any]]:
    """Return the hit rate in consecutive blocks of frames.

    Args:
        labels: (n,) HIT, MISS or ERROR.
        blocks: at most so many, of at least 10 frames each.

    Returns:
        For each block `first` and `last` frame, `hits`, `errors` and `rate`, None where all are errors.
    """
    size = max(10, -(-len(labels) // blocks))
    rates = []
    for first in range(0, len(labels), size):
        block = labels[first : first + size]
        hits, errors = int(np.sum(block == HIT)), int(np.sum(block == ERROR))
        scored = len(block) - errors
        share = hits / scored if scored else None
        rates.append(
            {"first": first, "last": first + len(block) - 1, "hits": hits, "errors": errors, "rate": share}
        )
    return rates


def _printable(value: Any) -> Any:
    """Escape what is not printed in all texts of a value for JSON."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _printable(each) for key, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list) else value
