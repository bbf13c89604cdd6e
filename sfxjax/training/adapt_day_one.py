"""Fit the day-one model to a run's frames, none of which is labelled: `train.adapt --model day-one --frames FILES --out DIR`.

What the detector shows in every frame is learnt from half of the frames looked at (`sfxjax.spots.fixed_pattern`,
`sfxjax.spots.recurrence`). The other half decides whether it is taken out: of their pixels blank frames are put together, each
pixel from another frame, and simulated spots are put into as many. Ways that tell these better than the model as it is, by
`LEAST_GAIN` frames, and neither class worse by more than `MOST_LOSS`, are kept; else nothing is changed. Simulated spots are not
the crystals' own, so the frames as they came have a say too: a way that calls fewer of them hits is kept only where it tells
blank frames better, so that those may have been false hits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfxjax.command_line import new_parser, read_seed, screen_call, whole_in
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.data.read import WholeFrame
from sfxjax.errors import UserError
from sfxjax.files import make_folder
from sfxjax.label.store import SUFFIX
from sfxjax.mapping import cores, thread_pool
from sfxjax.progress import progress
from sfxjax.screen.sources import Sources, opened_run
from sfxjax.simulate.inserted import with_spots
from sfxjax.spots.day_one import FrameSpots, find_spots
from sfxjax.spots.fixed_pattern import PATTERN_FILE, FixedPattern, mean_pattern
from sfxjax.spots.frame_pixels import frame_pixels
from sfxjax.spots.prepare import prepare_frame
from sfxjax.spots.recalibration import Recalibration
from sfxjax.spots.recurrence import FEWEST, recurring_places, shown_together
from sfxjax.text import say

MOST_FITTED_FRAMES = 200
# Pixels of all frames held at once.
MOST_PIXELS_HELD = 2**28
# Frames of either class in the check, and of how many frames a blank one is put together.
CHECKED, MIXED = 32, 8
# Of the simulated spots, in units of the threshold of sight; from where none is seen to where all are.
STRENGTHS = (0.15, 1.5)
# A quarter of either class: the blank frames show no rings or streaks, so that they do not tell all that a way costs.
LEAST_GAIN, MOST_LOSS = 8, 1
# A larger part of a detector is not left out.
MOST_LEFT_OUT = 0.05


@dataclass(frozen=True)
class Check:
    """How many of `CHECKED` frames of either class are told right.

    Attributes:
        hits: with simulated spots.
        misses: without.
    """

    hits: int
    misses: int

    def better(self, other: Check) -> bool:
        """Tell whether this is enough better than the other."""
        gain = self.hits + self.misses - other.hits - other.misses
        worse = max(other.hits - self.hits, other.misses - self.misses)
        return gain >= LEAST_GAIN and worse <= MOST_LOSS

    def may_lose_hits(self, other: Check) -> bool:
        """Tell whether frames that the other way calls hits may be blank, as far as this check tells."""
        return self.misses - other.misses >= LEAST_GAIN


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        pattern: what is to be taken out; None: nothing.
        before: the check of the model as it is.
        after: of the way kept.
        why: a word on what was done, or why nothing was.
    """

    pattern: FixedPattern | None
    before: Check
    after: Check
    why: str


def adapt_to_run(
    frames: Sequence[WholeFrame], seed: int = 0, advance: Callable[[int], None] = lambda frames: None
) -> Adapted:
    """Fit the day-one model to frames of one shape.

    Args:
        frames: of the run, at least 2 x `FEWEST`.
        seed: of the blank frames and the simulated spots.
        advance: called with the number of frames counted.

    Raises:
        UserError: there are too few frames.
    """
    if len(frames) < 2 * FEWEST:
        raise UserError(f"{len(frames)} frames tell too little; {2 * FEWEST} are needed")

    def count(some: Sequence[WholeFrame], pattern: FixedPattern | None = None) -> list[FrameSpots]:
        def one(frame: WholeFrame) -> FrameSpots:
            pixels, mask, limit = frame if pattern is None else pattern.taken_out(*frame)
            found = find_spots(pixels, mask, limit=limit)
            advance(1)
            return found

        return list(thread_pool(cores()).map(one, some))

    fitted, held_out = frames[::2], frames[1::2]
    ready = [frame_pixels(frame.pixels, frame.mask, 0, frame.limit) for frame in fitted]
    shape = ready[0].height, ready[0].width
    nothing = FixedPattern(np.zeros(shape, bool))
    as_it_is = count(fitted)
    held = count(held_out)
    blanks, hits = _check_frames(held_out, [spots.expected for spots in held], np.random.default_rng(seed))

    def checked(pattern: FixedPattern | None) -> Check:
        return Check(_called_hits(count(hits, pattern)), len(blanks) - _called_hits(count(blanks, pattern)))

    before = checked(None)
    ways: list[tuple[str, FixedPattern]] = []
    words = []
    subtracted = []
    if np.mean([each.counting for each in ready]) < 0.5:
        values, level = mean_pattern([each.floats() for each in ready])
        subtracted = [("the detector's pattern subtracted", FixedPattern(nothing.places, values, level))]
    for word, start in [("", nothing), *subtracted]:
        found = as_it_is if start is nothing else count(fitted, start)
        if word:
            ways.append((word, start))
        places = recurring_places(found, shape)
        left_out = f"{int(places.sum())} pixels left out where frames show spots again and again"
        if not places.any():
            continue
        if places.mean() > MOST_LEFT_OUT:
            words.append(f"{100 * places.mean():.0f} % of the pixels show spots again and again")
        elif shown_together(found, places):
            words.append("spots that recur come and go together, as those of a crystal that stays")
        else:
            new = FixedPattern(places, start.pattern, start.level)
            ways.append((f"{word}, {left_out}" if word else left_out, new))
    best: tuple[str, FixedPattern | None, Check] = ("", None, before)
    hits_before = _called_hits(held)
    for word, way in ways:
        after = checked(way)
        if not after.better(before) or (best[1] is not None and sum_of(after) <= sum_of(best[2])):
            continue
        hits_after = _called_hits(count(held_out, way))
        if hits_after < hits_before and not after.may_lose_hits(before):
            words.append(f"{word}: {hits_after} hits where the model as it is finds {hits_before}")
        else:
            best = (word, way, after)
    if best[1] is not None:
        return Adapted(best[1], before, best[2], best[0])
    words = words or (["what was learnt tells frames no better"] if ways else ["nothing stays put"])
    return Adapted(None, before, before, "; ".join(words))


def _called_hits(found: Sequence[FrameSpots]) -> int:
    return sum(spots.score >= 0.5 for spots in found)


def sum_of(check: Check) -> int:
    """Return how many frames of a check are told right."""
    return check.hits + check.misses


def _check_frames(
    frames: Sequence[WholeFrame], spots: Sequence[float], rng: np.random.Generator
) -> tuple[list[WholeFrame], list[WholeFrame]]:
    """Put blank frames together, and hits out of such and simulated spots."""
    quiet = np.argsort(spots)[: max(len(frames) // 2, MIXED)]
    levels = np.array(
        [np.median(frames[place].pixels.reshape(-1)[::7].astype(np.float64)) for place in quiet]
    )
    by_level = quiet[np.argsort(levels)]
    blanks: list[WholeFrame] = []
    for number in range(2 * CHECKED):
        # Frames of about the same light: pixels of others would not fit.
        start = int(rng.integers(0, max(len(by_level) - MIXED, 0) + 1))
        some = [frames[place] for place in by_level[start : start + MIXED]]
        which = rng.integers(0, len(some), some[0].pixels.shape)
        pixels = some[0].pixels.copy()
        mask = None if some[0].mask is None else some[0].mask.copy()
        for place, frame in enumerate(some):
            own = which == place
            pixels[own] = frame.pixels[own]
            if mask is not None and frame.mask is not None:
                mask[own] = frame.mask[own]
        limit = some[0].limit
        if number % 2:
            # A pattern that is taken out lays bare spots that were lost in it.
            pixels = with_spots(rng, pixels, mask, limit, float(np.exp(rng.uniform(*np.log(STRENGTHS)))))
        blanks.append(WholeFrame(pixels, mask, limit))
    return blanks[::2], blanks[1::2]


def parser_for_runs() -> argparse.ArgumentParser:
    """Make the parser of `train.adapt --model day-one`."""
    parser = new_parser(
        "train.adapt", "Fit the day-one model to a run's frames, none of which is labelled, where that helps."
    )
    parser.add_argument("--model", choices=("day-one",), required=True, help="that comes with the package")
    parser.add_argument(
        "--frames",
        nargs="+",
        required=True,
        metavar="FILE",
        help="of the run: files, folders or quoted patterns",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the adapted model")
    parser.add_argument(
        "--most",
        type=whole_in(2 * FEWEST, 10**6),
        default=MOST_FITTED_FRAMES,
        metavar="N",
        help="frames looked at",
    )
    parser.add_argument("--seed", type=read_seed, default=0, help="of the frames simulated for the check")
    parser.add_argument("--dataset", metavar="PATH", help="path of the frames in HDF5 files")
    parser.add_argument("--mask", metavar="FILE[:PATH]", help="mask of bad pixels")
    parser.add_argument("--mask-good", type=int, choices=(0, 1), help="value of good pixels in the mask")
    parser.add_argument("--allow-links", action="store_true", help="follow links out of the run's folder")
    return parser


def adapt_day_one(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Raises:
        UserError: the frames cannot be read, or are too few.
    """
    began = time.monotonic()
    chosen = parser_for_runs().parse_args(arguments)
    if any(chosen.out.glob(f"*{SUFFIX}")):
        raise UserError(f"{chosen.out} holds labels; name another --out")
    read = ReadOptions(
        chosen.dataset, chosen.mask, chosen.mask_good, allow_links=chosen.allow_links, panels_apart=True
    )
    with opened_run(read, find_files(chosen.frames)) as sources:
        frames = frames_to_fit(sources, chosen.most)
    looked_at = len(frames) + 2 * CHECKED
    # Of the frames as they are; how often they are looked at again depends on what is found.
    with progress("adapting", looked_at) as advance:
        adapted = adapt_to_run(frames, chosen.seed, advance)
    before, after = adapted.before, adapted.after
    as_it_is = f"{before.hits} of {CHECKED} simulated hits and {before.misses} of {CHECKED} blanks told right"
    if adapted.pattern is None:
        print(f"not adapted: {adapted.why} ({as_it_is} by the model as it is)")
    else:
        print(f"adapted: {adapted.why}; {as_it_is} before, {after.hits} and {after.misses} after")
    save_adapted(adapted.pattern, chosen.out)
    print(f"written to {chosen.out}, from {len(frames)} frames ({time.monotonic() - began:.0f} s)")
    say(f"next: {screen_call(chosen, chosen.frames, chosen.out)}")


def save_adapted(pattern: FixedPattern | None, folder: Path) -> None:
    """Write a model that `sfxjax screen --model` takes: the day-one model, and what is taken out of its frames."""
    make_folder(folder)
    (folder / PATTERN_FILE).unlink(missing_ok=True)
    if pattern is not None:
        pattern.save(folder)
    Recalibration().save(folder)


def frames_to_fit(sources: Sources, most: int) -> list[WholeFrame]:
    """Read frames of the commonest shape, evenly spread over the run."""
    places: dict[tuple[int, ...], list[tuple[FrameStack, int]]] = {}
    for stack in sources.run.stacks:
        if stack.file not in sources.run.failed:
            places.setdefault(stack.raw_shape, []).extend((stack, n) for n in range(stack.frames))
    if not places:
        raise UserError("no frame can be read")
    shape, known = max(places.items(), key=lambda item: len(item[1]))
    count = min(most, len(known), max(MOST_PIXELS_HELD // int(np.prod(shape)), 2 * FEWEST))
    frames = []
    reasons = []
    for place in np.unique(np.linspace(0, len(known) - 1, count).astype(int)):
        try:
            frame = sources.read(*known[place])
            # One that cannot be judged must not pass for one without spots.
            prepare_frame(*frame)
            frames.append(frame)
        except (UserError, OSError, RuntimeError, ValueError) as error:
            reasons.append(str(error))
    if reasons:
        say(f"{len(reasons)} of {len(reasons) + len(frames)} frames are passed over: {reasons[0]}")
    return frames
