"""Fit the day-one model to a run's frames, none of which is labelled: `train.adapt --model day-one --frames FILES --out DIR`.

What the detector shows in every frame is learnt from half of the frames looked at (`sfxjax.spots.fixed_pattern`,
`sfxjax.spots.recurrence`), and how wide spots are (`sfxjax.spots.spot_size`): of wide ones pixels may be summed. The other half
decides which of these ways is kept, if any: see `sfxjax.training.adaptation_check`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfxjax.command_line import new_parser, read_seed, screen_call, whole_in
from sfxjax.data.frames import FrameStack
from sfxjax.data.inputs import find_files
from sfxjax.data.read import WholeFrame
from sfxjax.devices import device_line
from sfxjax.errors import UserError
from sfxjax.files import make_folder
from sfxjax.label.store import SUFFIX
from sfxjax.mapping import cores, thread_pool
from sfxjax.progress import progress
from sfxjax.screen.found_spots import THRESHOLD
from sfxjax.screen.options import add_frame_arguments, options_of_frames
from sfxjax.screen.sources import Sources, opened_run
from sfxjax.spots.day_one import FrameSpots, find_spots
from sfxjax.spots.fixed_pattern import PATTERN_FILE, FixedPattern, mean_pattern
from sfxjax.spots.frame_pixels import FramePixels, frame_pixels
from sfxjax.spots.prepare import prepare_frame
from sfxjax.spots.recalibration import Recalibration
from sfxjax.spots.recurrence import FEWEST, recurring_places, shown_together
from sfxjax.spots.spot_size import spot_size
from sfxjax.text import say
from sfxjax.training.adaptation_check import CHECKED, MOST_THRESHOLD, Check, CheckFrames, cautious_threshold
from sfxjax.training.day_one import WIDE_SPOTS

MOST_FITTED_FRAMES = 200
# Pixels of all frames held at once.
MOST_PIXELS_HELD = 2**28
# A larger part of a detector is not left out.
MOST_LEFT_OUT = 0.05
# Spots wider than any that the model has learnt from may be looked for in sums of `SUMMED` x `SUMMED` pixels.
WIDE_FROM, SUMMED = WIDE_SPOTS[1], 2


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        pattern: what is to be taken out; None: nothing.
        threshold: probability from which a frame so treated is a hit.
        before: the check of the model as it is.
        after: of the way kept.
        why: a word on what was done, or why nothing was.
    """

    pattern: FixedPattern | None
    threshold: float
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

    def spots_in(frame: WholeFrame, pattern: FixedPattern | None) -> FrameSpots:
        try:
            if pattern is None:
                return find_spots(*frame[:2], limit=frame.limit)
            pixels, mask, limit = pattern.taken_out(*frame)
            return pattern.in_frame(find_spots(pixels, mask, limit=limit), frame.pixels.shape)
        except UserError:
            # Nothing of it counts, or nothing is left of it: it shows nothing.
            return FrameSpots(0.0, 0.0, 0.0, 0.0, *np.zeros((5, 0)))

    def count(some: Sequence[WholeFrame], pattern: FixedPattern | None = None) -> list[FrameSpots]:
        def one(frame: WholeFrame) -> FrameSpots:
            found = spots_in(frame, pattern)
            advance(1)
            return found

        return list(thread_pool(cores()).map(one, some))

    fitted, held_out = frames[::2], frames[1::2]
    ready = [frame_pixels(frame.pixels, frame.mask, 0, frame.limit) for frame in fitted]
    shape = ready[0].height, ready[0].width
    nothing = FixedPattern(np.zeros(shape, bool))
    as_it_is, held = count(fitted), count(held_out)
    summed = replace(nothing, binned=SUMMED)
    size = _size_of(ready, as_it_is, count(fitted, summed))
    ways, words = _patterns(ready, as_it_is, nothing, lambda way: count(fitted, way))
    if size is not None and size >= WIDE_FROM:
        wide = f"spots of {size:.1f} pixels looked for in sums of {SUMMED} x {SUMMED} pixels"
        ways += [(wide, summed)] + [
            (f"{word}, {wide}", replace(way, binned=SUMMED)) for word, way in ways if not way.places.any()
        ]
    check_frames = CheckFrames(held_out, [spots.expected for spots in held], size, seed)

    def scored(number: int) -> list[float]:
        frame = check_frames.frame(number)
        scores = [spots_in(frame, way).score for way in (None, *(way for _, way in ways))]
        advance(1)
        return scores

    scores = np.array(list(thread_pool(cores()).map(scored, range(2 * CHECKED)))).T
    hit = np.arange(2 * CHECKED) < CHECKED
    before = Check((scores[0] >= THRESHOLD) == hit, called_hits(held, THRESHOLD))
    best = Adapted(None, THRESHOLD, before, before, "")
    most = 0.0
    for (word, way), treated in zip(ways, scores[1:], strict=True):
        threshold = cautious_threshold(treated, CHECKED - before.misses)
        if threshold > MOST_THRESHOLD:
            continue
        after = Check((treated >= threshold) == hit, called_hits(count(held_out, way), threshold))
        gain = after.gain(before)
        if gain.sure and gain.balanced > most:
            best, most = Adapted(way, threshold, before, after, word), gain.balanced
        elif gain.recall > 0 > gain.own_recall:
            words.append(
                f"{word}: {after.called.sum()} hits where the model as it is finds {before.called.sum()}"
            )
    if best.pattern is not None:
        return best
    words = words or (["what was learnt tells frames no better"] if ways else ["nothing stays put"])
    return replace(best, why="; ".join(words))


def called_hits(found: Sequence[FrameSpots], threshold: float) -> np.ndarray:
    """Tell which frames are called hits, bool (n,)."""
    return np.array([spots.score >= threshold for spots in found])


def _size_of(
    ready: Sequence[FramePixels], found: Sequence[FrameSpots], in_sums: Sequence[FrameSpots]
) -> float | None:
    """Return how wide spots are, by those found in frames as they are or in sums of pixels, whichever are more."""
    values = [each.floats() for each in ready]
    size, _ = max((spot_size(values, spots) for spots in (found, in_sums)), key=lambda told: told[1])
    return size


def _patterns(
    ready: Sequence[FramePixels],
    as_it_is: Sequence[FrameSpots],
    nothing: FixedPattern,
    count: Callable[[FixedPattern], list[FrameSpots]],
) -> tuple[list[tuple[str, FixedPattern]], list[str]]:
    """Learn what stays put.

    Args:
        ready: the frames that are learnt from.
        as_it_is: their spots.
        nothing: what takes nothing out of them.
        count: counts their spots when something is taken out.

    Returns:
        What may be taken out, with a word on it; and words on what may not.
    """
    ways: list[tuple[str, FixedPattern]] = []
    words = []
    if np.mean([each.counting for each in ready]) < 0.5:
        values, level = mean_pattern([each.floats() for each in ready])
        ways.append(("the detector's pattern subtracted", replace(nothing, pattern=values, level=level)))
    for word, start in [("", nothing), *ways]:
        found = as_it_is if start is nothing else count(start)
        places = recurring_places(found, nothing.places.shape)
        left_out = f"{int(places.sum())} pixels left out where frames show spots again and again"
        if not places.any():
            continue
        if places.mean() > MOST_LEFT_OUT:
            words.append(f"{100 * places.mean():.0f} % of the pixels show spots again and again")
        elif shown_together(found, places):
            words.append("spots that recur come and go together, as those of a crystal that stays")
        else:
            ways.append((f"{word}, {left_out}" if word else left_out, replace(start, places=places)))
    return ways, words


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
    add_frame_arguments(parser)
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
    read = options_of_frames(chosen, panels_apart=True)
    print(device_line())
    with opened_run(read, find_files(chosen.frames)) as sources:
        frames = frames_to_fit(sources, chosen.most)
    looked_at = len(frames) + 2 * CHECKED
    # Of the frames as they are; how often they are looked at again depends on what is found.
    with progress("adapting", looked_at) as advance:
        adapted = adapt_to_run(frames, chosen.seed, advance)
    before, after = adapted.before, adapted.after
    as_it_is = f"{before.hits} of {CHECKED} simulated hits and {before.misses} of {CHECKED} simulated misses told right"
    if adapted.pattern is None:
        print(f"not adapted: {adapted.why} ({as_it_is} by the model as it is)")
    else:
        print(
            f"adapted: {adapted.why}; {as_it_is} before, {after.hits} and {after.misses} after, a frame being a hit from a"
            f" probability of {adapted.threshold:.3f}"
        )
    save_adapted(adapted, chosen.out)
    print(f"written to {chosen.out}, from {len(frames)} frames ({time.monotonic() - began:.0f} s)")
    say(f"next: {screen_call(chosen, chosen.frames, chosen.out)}")


def save_adapted(adapted: Adapted, folder: Path) -> None:
    """Write a model that `sfxjax screen --model` takes: the day-one model, and what is taken out of its frames."""
    make_folder(folder)
    (folder / PATTERN_FILE).unlink(missing_ok=True)
    if adapted.pattern is not None:
        adapted.pattern.save(folder)
    Recalibration(threshold=adapted.threshold).save(folder)


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
