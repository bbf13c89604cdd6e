"""Frames made ready by other processes are those made ready here, in order, and one that ends a process costs no other."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax import mapping
from sfxjax.data.frames import ReadOptions
from sfxjax.data.inputs import find_files
from sfxjax.screen.prepared_frames import Preparation, ReadFrame, Wanted, prepared_frames
from sfxjax.screen.sources import opened_run
from sfxjax.screen.spots import counted_frames
from sfxjax.spots import many_frames
from sfxjax.spots.fixed_pattern import FixedPattern
from sfxjax.spots.prepare import prepare_frame

FRAMES, SHAPE = 11, (96, 144)
FATAL, UNFIT = 4, 6


@dataclass(frozen=True)
class Pattern(FixedPattern):
    """Takes nothing out; ends the process at a frame, and gives another a mask that does not fit."""

    def taken_out(self, pixels, mask, limit):
        if pixels[0, 0] == FATAL and os.getpid() != os.getppid():
            os.kill(os.getpid(), signal.SIGKILL)
        return pixels, np.ones((3, 3), bool) if pixels[0, 0] == UNFIT else mask, limit


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Each frame's number is in its first pixel; every third one shows spots; a mask leaves some rows out."""
    rng = np.random.default_rng(0)
    frames = rng.poisson(20, (FRAMES, *SHAPE)).astype(np.uint16)
    for frame in frames[::3]:
        for ss, fs in zip(rng.integers(30, 90, 12), rng.integers(5, 135, 12), strict=True):
            frame[ss : ss + 2, fs : fs + 2] += 90
    frames[:, 0, 0] = np.arange(FRAMES)
    mask = np.zeros(SHAPE, np.uint32)
    mask[20:25] = 1
    with h5py.File(tmp_path / "run.h5", "w") as run:
        run["/entry/data/data"] = frames
        run["/entry/instrument/detector/detectorSpecific/pixel_mask"] = mask
    return str(tmp_path / "run.h5")


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_frames_are_ready_in_order_wherever_they_are_made_so(file: str, processes: int) -> None:
    with opened_run(ReadOptions(panels_apart=True), find_files([file])) as sources:
        stack = sources.run.stacks[0]
        plan = [*(Wanted(stack, number) for number in range(FRAMES - 1)), "known", Wanted(stack, 10)]
        held: list[ReadFrame] = []
        with prepared_frames(sources, processes=processes, kept=4) as prepared:
            for place, item in enumerate(prepared(plan)):
                if place == FRAMES - 1:
                    assert item == "known"
                    continue
                assert (
                    isinstance(item, ReadFrame)
                    and item.prepared is not None
                    and item.number == min(place, 10)
                )
                held.append(item)
                # Memory is not used again before it is released.
                for one in held:
                    expected = prepare_frame(*sources.read(stack, one.number))
                    assert one.prepared is not None and one.prepared[1:] == expected[1:]
                    for found, wanted in zip(one.prepared.pixels, expected.pixels, strict=True):
                        np.testing.assert_array_equal(found, wanted)
                if len(held) == 4:
                    held.pop(0).release()


def test_a_frame_that_ends_a_process_is_named_and_costs_no_other(file: str) -> None:
    with opened_run(ReadOptions(panels_apart=True), find_files([file])) as sources:
        counted = list(counted_frames(sources, 6.0, 4, pattern=Pattern(np.zeros(SHAPE, bool)), processes=2))
        alone = list(counted_frames(sources, 6.0, 4))
    assert [frame.number for frame in counted] == list(range(FRAMES))
    for frame, expected in zip(counted, alone, strict=True):
        if frame.number == FATAL:
            assert frame.reason == "reading it ended the reader (SIGKILL)"
        elif frame.number == UNFIT:
            assert "the mask has the shape (3, 3)" in frame.reason
        else:
            assert frame.spots is not None and expected.spots is not None
            assert frame.label == expected.label == ("MISS" if frame.number % 3 else "HIT")
            np.testing.assert_allclose(frame.spots.signal_to_noise, expected.spots.signal_to_noise, rtol=1e-5)


@pytest.mark.parametrize("processes", [0, 2])
def test_an_accelerators_batches_are_of_frames_that_processes_read(
    file: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_run(ReadOptions(panels_apart=True), find_files([file])) as sources:
        alone = [frame.spots for frame in counted_frames(sources, 6.0, 4)]
        for module in (many_frames, mapping):
            monkeypatch.setattr(module, "on_cpu", lambda: False)
        monkeypatch.setattr(many_frames, "MOST_FRAMES_AT_ONCE", 4)
        together = [frame.spots for frame in counted_frames(sources, 6.0, 4, processes=processes)]
    for found, expected in zip(together, alone, strict=True):
        assert found is not None and expected is not None
        np.testing.assert_allclose(
            [found.score, found.expected], [expected.score, expected.expected], atol=1e-4
        )


def test_frames_that_an_accelerator_cannot_make_ready_are_made_ready_for_it(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(file, "r+") as run:
        run["/entry/data/data"][:, :, 60:80] = 7
    asked: list[bool] = []
    of = Preparation.of

    def noted(self: Preparation, *arguments: Any, as_stored: bool = False) -> Any:
        asked.append(as_stored)
        return of(self, *arguments, as_stored=as_stored)

    monkeypatch.setattr(Preparation, "of", noted)
    with opened_run(ReadOptions(panels_apart=True), find_files([file])) as sources:
        alone = [frame.spots for frame in counted_frames(sources, 6.0, 4)]
        for module in (many_frames, mapping):
            monkeypatch.setattr(module, "on_cpu", lambda: False)
        monkeypatch.setattr(many_frames, "MOST_FRAMES_AT_ONCE", 1)
        together = [frame.spots for frame in counted_frames(sources, 6.0, 4)]
    assert asked[:FRAMES] == [False] * FRAMES
    assert asked[FRAMES] and not asked[-1], "the first one tells that it is no use"
    for found, expected in zip(together, alone, strict=True):
        assert found is not None and expected is not None
        # Which of two places as strong counts as the spot is a matter of rounding.
        np.testing.assert_allclose(found.expected, expected.expected, rtol=0.01, atol=1e-4)
