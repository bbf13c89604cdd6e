"""One screening: finds a run's frames, reads and scores them, and keeps what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfxjax.data.bad_pixels import BAD_PIXEL_FRAMES
from sfxjax.data.batches import CropBatch, crop_batch, in_background
from sfxjax.data.file_states import State, states_again
from sfxjax.data.frames import FrameStack, pixel_type
from sfxjax.data.inputs import Inputs
from sfxjax.data.stack_masks import check_used
from sfxjax.data.workers import Batch, Frame, Readers, default_readers
from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import NAMES
from sfxjax.files import make_folder
from sfxjax.pixels.missing_values import type_limit
from sfxjax.screen.bad_pixels import BadPixels
from sfxjax.screen.crop_masks import CropMasks
from sfxjax.screen.journal import JOURNAL, Journal
from sfxjax.screen.made_by import read_by
from sfxjax.screen.options import ScreenOptions
from sfxjax.screen.results import scored
from sfxjax.screen.run import Run, unreadable
from sfxjax.screen.same_frames import checksums, same_frames
from sfxjax.screen.scorer import Screener
from sfxjax.screen.sources import NO_MASK, described, notes_of

if TYPE_CHECKING:
    from sfxjax.models.checkpoint import TrainedModel


class Screening:
    """Reads and scores the frames of a run. A context manager.

    Args:
        model: scores the frames.
        options: what to screen and how.
        say: called with each line the user should read.
    """

    def __init__(
        self, model: TrainedModel, options: ScreenOptions, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.options = options
        self.run = Run()
        self.files, self.notes = options.files, options.notes
        self._say = say
        self._said: set[str] = set()
        self.screener = Screener(model, batch_size=options.batch_size)
        count = default_readers() if options.readers is None else options.readers
        self.readers = Readers(options.read, count)
        # Imported late, as JAX is.
        from sfxjax.models.checkpoint import model_digest

        self._digest = model_digest(model)
        self.journal: Journal | None = None
        self._states: dict[str, list[State]] = {}
        self._bad = BadPixels()
        self._masks = CropMasks(self.readers, self.run.masks, self._say_once)
        self._found: dict[str, list[FrameStack]] = {}

    def __enter__(self) -> Screening:
        return self

    def __exit__(self, *_: object) -> None:
        self.readers.close()
        if self.journal is not None:
            self.journal.close()

    def open(self) -> None:
        """Find the frames, check the masks, and take up what an earlier screening left.

        Raises:
            UserError: no file can be opened, a mask does not fit, or an option does.
        """
        self.find_frames()
        if not any(stack.frames for stack in self.run.readable()):
            raise UserError(self.run.why_empty())
        if not self.run.masks:
            self.run.masks.append(NO_MASK)
            self._say_once(NO_MASK)
        make_folder(self.options.out)
        number, count = self.options.process
        name = JOURNAL if count == 1 else f"{JOURNAL}.{number}"
        made_by = {"model": self._digest, **read_by(self.options.read, self._masks.of(self._first()))}
        self.journal = journal = Journal(
            self.options.out / name,
            made_by,
            self.run.results,
            {"threshold": self.options.threshold},
            self.options.overwrite,
        )
        if journal.bad_pixels is not None:
            self._bad.take(journal.bad_pixels)
            self.run.bad_pixels = self._bad.line
        journal.check_given(self.files)
        self.check_files()
        self.collect()
        for line in journal.lines():
            self._say(line)
        self.find_bad_pixels()

    def collect(self) -> None:
        """Take up what other processes of this screening have found."""
        assert self.journal is not None
        own = self.journal.path.name
        self.journal.read_others(
            sorted(path for path in self.options.out.glob(f"{JOURNAL}*") if path.name != own)
        )

    def check_files(self) -> None:
        """Forget the scores of frames whose files were replaced since, and say so."""
        assert self.journal is not None
        for name in self.files:
            known = self._states.get(name)
            # What a file links to is looked at again where the file itself has changed.
            if known is None or states_again(known) != known:
                self._states[name] = self.readers.states(name)
        before = self.run.results.known()
        for line in self.journal.check_files(self._states, self._same_frames):
            self._say(line)
        changed = set(before) - set(self.run.results.known())
        if changed:
            self._masks.forget(changed)
            self.find_frames()
        if self.journal.bad_pixels is not None and changed & {stack.file for stack, _ in self._looked_at()}:
            # The pixels found bad are another run's.
            self._bad = BadPixels()
            self.run.bad_pixels = ""
            self.journal.add_bad_pixels(None)

    def renew_files(self, inputs: Inputs) -> None:
        """Take in the files that are there now; those that are gone stay in the run, for the sake of their frames."""
        files = list(inputs.files)
        for before, name in pairwise(("", *self.files)):
            if name in self._found and name not in files and not Path(name).exists():
                files.insert(files.index(before) + 1 if before in files else 0, name)
        self.files, self.notes = tuple(files), inputs.notes

    def left(self) -> int:
        """Count the frames that no process has screened yet."""
        return sum(not self.run.results.is_done(*frame) for frame in self.run.frames())

    def find_frames(self) -> int:
        """Look at the files, anew if they grow; returns how many frames there are now.

        Raises:
            UserError: a mask, a geometry or another option does not fit the first file.
        """
        stacks: list[FrameStack] = []
        self.run.failed = {}
        if self.options.read.growing:
            self.readers.forget()
        for name in self.files:
            try:
                found = self.readers.stacks(name)
                self.run.stacks = [*stacks, *found]
                for stack in found:
                    self._prepare_mask(stack)
            except UserError as error:
                if not stacks and len(self.files) == 1 and not self.options.read.growing:
                    raise
                self.run.failed[name] = str(error)
                # Frames that were found before stay in the run, and the scores of those that were read stand.
                found = self._found.get(name) or [unreadable(name)]
            else:
                self._found[name] = found
            stacks += found
        self.run.stacks = stacks
        check_used(self.options.read, self.run.readable())
        failed = {} if self.options.read.growing else self.run.failed
        for line in described(self.run, [*self.notes, *notes_of(self.run, failed)]):
            self._say_once(line)
        return len(self.run)

    def score(
        self,
        done: Callable[[int, np.ndarray], None] = lambda count, scores: None,
        final: bool = True,
    ) -> None:
        """Score every frame that is not known yet.

        Args:
            done: called after each batch with how many frames it had and their scores, NaN for errors.
            final: errors stand; else they are looked at again next time, since the files still grow.
        """
        assert self.journal is not None
        readable = [stack for stack in self.run.stacks if self._reason_without_reading(stack) == ""]
        dtype = pixel_type([stack.dtype for stack in readable] or ["<u2"])
        read = in_background(self.readers.batches(self._plan(), self.screener.batch_size, dtype))
        for batch, found in self.screener.score_batches(read, self.crop_batch):
            reasons = [a or b for a, b in zip(batch.reasons, found.reasons, strict=True)]
            scores = np.where([bool(reason) for reason in reasons], np.float32(np.nan), found.scores)
            kept = [place for place, reason in enumerate(reasons) if final or not reason]
            frames = [batch.frames[place] for place in kept]
            if frames:
                self.journal.add(
                    scored(
                        frames,
                        scores[kept],
                        [reasons[place] for place in kept],
                        found.statistics[kept],
                        np.array(
                            [
                                _limit(*frame, batch.limits[place])
                                for frame, place in zip(frames, kept, strict=True)
                            ]
                        ),
                        checksums(batch.crops[kept]) if self.options.read.growing else None,
                    )
                )
                done(len(frames), scores[kept])
        if final:
            self._score_unreadable(done)

    def crops(self, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read crops of frames again.

        Args:
            indices: of the frames in the run, in any order.

        Yields:
            The crop (724, 724), zeros where it cannot be read, and its good pixels.
        """
        frames = [self.run.frame(int(index)) for index in indices]
        size = 8
        plan = [frames[begin : begin + size] for begin in range(0, len(frames), size)]
        dtype = pixel_type([stack.dtype for stack in self.run.stacks])
        for batch in self.readers.batches(plan, size, dtype):
            for place, (stack, _) in enumerate(batch.frames):
                shared = self._good(stack)
                good = np.ones(batch.crops.shape[1:], bool) if shared is None else shared
                # Of one that cannot be read any more no pixel tells anything.
                good = good & (not batch.reasons[place])
                yield batch.crops[place], good if batch.masks is None else good & batch.masks[place]

    def _plan(self) -> Iterator[list[Frame]]:
        """Split the frames into batches that are the same at every start, and leave out what is known."""
        size = self.screener.batch_size
        readable = [stack for stack in self.run.stacks if not self._reason_without_reading(stack)]
        batch: list[Frame] = []
        for frame in ((stack, number) for stack in readable for number in range(stack.frames)):
            batch.append(frame)
            if len(batch) == size:
                yield from self._left(batch)
                batch = []
        yield from self._left(batch)

    def _left(self, batch: list[Frame]) -> Iterator[list[Frame]]:
        left = [frame for frame in batch if not self.run.results.is_done(*frame)]
        if left and self._is_mine(left[0]):
            yield left

    def _is_mine(self, frame: Frame) -> bool:
        number, count = self.options.process
        if count == 1:
            return True
        files = list(dict.fromkeys(stack.file for stack in self.run.stacks))
        if len(files) >= count:
            return files.index(frame[0].file) % count == number
        return (frame[1] // self.screener.batch_size) % count == number

    def crop_batch(self, batch: Batch) -> CropBatch:
        """Return what a screener is given of frames that have been read: their crops, and which pixels mean something."""
        stacks = [stack for stack, _ in batch.frames]
        shared = [self._good(stack) for stack in stacks]
        masked = [self._has_mask(stack) for stack in stacks]
        return crop_batch(batch.crops, stacks, shared, batch.masks, masked, batch.limits)

    def _score_unreadable(self, done: Callable[[int, np.ndarray], None]) -> None:
        assert self.journal is not None
        for stack in self.run.stacks:
            reason = self._reason_without_reading(stack)
            frames = [(stack, number) for number in range(stack.frames)]
            left = [frame for frame in frames if not self.run.results.is_done(*frame)] if reason else []
            if left and self._is_mine(left[0]):
                scores = np.full(len(left), np.nan, np.float32)
                statistics = np.full((len(left), len(NAMES)), np.nan, np.float32)
                self.journal.add(scored(left, scores, [reason] * len(left), statistics))
                done(len(left), scores)

    def _reason_without_reading(self, stack: FrameStack) -> str:
        """Say why the frames of a stack cannot be screened, empty if they can."""
        if stack.file in self.run.failed:
            return self.run.failed[stack.file]
        if stack.unreadable:
            return stack.unreadable
        first = self._first()
        if stack.shape != first.shape:
            here, there = ("x".join(map(str, shape)) for shape in (stack.shape, first.shape))
            return f"frames of {here} pixels, where the run's first frames have {there}"
        return ""

    def _first(self) -> FrameStack:
        """Return the first stack that can be read, whose shape is the run's."""
        return self.run.readable()[0]

    def _same_frames(self, name: str) -> bool | None:
        if name in self.run.failed:
            return None
        stacks = [stack for stack in self.run.stacks if stack.file == name]
        return same_frames(self.readers, stacks, self.run.results.checksums(name))

    def _prepare_mask(self, stack: FrameStack) -> None:
        if not self._reason_without_reading(stack):
            self._masks.fetch(stack)

    def _good(self, stack: FrameStack) -> np.ndarray | None:
        return self._bad.without(self._masks.of(stack))

    def _has_mask(self, stack: FrameStack) -> bool:
        return bool(self.options.read.mask or stack.mask_datasets or stack.frame_masks)

    def _looked_at(self) -> list[Frame]:
        """Return the frames in which bad pixels are looked for."""
        readable = (stack for stack in self.run.stacks if not self._reason_without_reading(stack))
        frames = ((stack, number) for stack in readable for number in range(stack.frames))
        return list(islice(frames, BAD_PIXEL_FRAMES))

    def find_bad_pixels(self) -> None:
        """Look for bad pixels where no mask tells them, once there are enough frames; what was scored before is scored again."""
        assert self.journal is not None
        readable = [stack for stack in self.run.stacks if not self._reason_without_reading(stack)]
        if not readable or any(self._has_mask(stack) for stack in readable):
            return
        if self._bad.find(self.readers, self._looked_at(), self._masks.of(readable[0])):
            self.journal.add_bad_pixels(self._bad.to_json())
            self.run.bad_pixels = self._bad.line
            self._say_once(f"no mask given: {self._bad.line}")

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)


def _limit(stack: FrameStack, number: int, limit: float) -> float:
    return limit if limit < type_limit(np.dtype(stack.dtype)) else np.inf
