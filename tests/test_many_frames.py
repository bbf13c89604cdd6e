"""Spots of many frames at a time are those of each alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sfxjax.errors import UserError
from sfxjax.spots import many_frames, together
from sfxjax.spots.day_one import FrameSpots, find_spots
from sfxjax.spots.many_frames import BatchFinder, frames_at_once, memory_at_once
from sfxjax.spots.prepare import prepare_frame, settle_frame
from sfxjax.spots.together import SpotFinder


def _frames(dtype: str, seed: int = 0) -> list[tuple[Any, ...]]:
    """A hit, a blank, a hit with half of it masked, one with its limit inside the spots, and one with a gap of a constant."""
    rng = np.random.default_rng(seed)
    blank, hit = rng.poisson(20, (5, 96, 144)).astype(dtype), np.zeros((96, 144))
    ss, fs = np.indices(hit.shape)
    for y, x in rng.uniform(8, 88, (12, 2)):
        hit += 150 * np.exp(-0.5 * ((ss - y) ** 2 + (fs - 1.4 * x) ** 2))
    spotted = blank + rng.poisson(hit).astype(dtype)
    mask = np.ones(hit.shape, bool)
    mask[:48] = False
    gap = spotted[4].copy()
    gap[40:60] = 7
    return [(spotted[0],), (blank[1],), (spotted[2], mask), (spotted[3], None, 60.0), (gap,)]


def _by_place(found: FrameSpots) -> list[Any]:
    """The candidates by their place, since of those that stand out alike either may come first."""
    assert (np.diff(found.signal_to_noise) <= 0).all()
    order = np.lexsort((found.fs.round(2), found.ss.round(2)))
    return [part[order] if np.ndim(part) else part for part in found]


@pytest.mark.parametrize("dtype", ["uint16", pytest.param("float32", marks=pytest.mark.slow)])
def test_an_accelerators_batch_gives_the_spots_of_each_frame(monkeypatch, dtype):
    frames = _frames(dtype)
    alone = [find_spots(*one[:2], limit=(*one, None, None)[2]) for one in frames]
    assert alone[0].score > 0.9 > 0.1 > alone[1].score
    monkeypatch.setattr(many_frames, "on_cpu", lambda: False)
    assert frames_at_once((1920, 1920)) == 18 and frames_at_once((96, 144)) == 32
    monkeypatch.setattr(many_frames, "MOST_FRAMES_AT_ONCE", 4)
    # A second time in memory that holds other frames.
    for order in (range(4), (4, 1, 0)):
        together = BatchFinder().find([prepare_frame(*frames[place]) for place in order]).spots()
        for found, expected in zip(together, (alone[place] for place in order), strict=True):
            for name, one, other in zip(found._fields, _by_place(found), _by_place(expected), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=name)


def test_an_accelerator_makes_frames_ready_or_they_are_made_ready_for_it(monkeypatch):
    frames = [one[0] for seed in (0, 3) for one in _frames("uint16", seed)]
    saturated = frames[2].copy()
    saturated[10:14, 20:24] = 65535
    frames += [3 * frames[0], saturated, np.zeros_like(frames[0])]
    mask = np.ones(frames[0].shape, bool)
    mask[:, 5:9], mask[70:80, 30:90] = False, False
    for own, settled in ((None, False), (mask, False), (mask, True)):
        alone = [find_spots(frame, own) for frame in frames]
        given = [settle_frame(frame, own) if settled else frame for frame in frames]
        with monkeypatch.context() as patch:
            patch.setattr(many_frames, "on_cpu", lambda: False)
            patch.setattr(many_frames, "MOST_FRAMES_AT_ONCE", 4)
            finder = BatchFinder(None if settled else own, settled=settled)
            batches = [[], *(given[first : first + 4] for first in range(0, len(given), 4))] * 2
            found = list(finder.each(enumerate(batches), lambda item: item[1]))
        assert [place for (place, _), _ in found] == list(range(len(batches)))
        # What the values themselves say of a saturated spot's heart, or of zeros alone, is settled where frames are read.
        assert [batch.others for _, batch in found[:5]] == [0, 0, 1, 3 - settled, 1 - settled]
        each = [spots for _, batch in found for spots in batch.spots()]
        for spots, expected in zip(each, alone * 2, strict=True):
            # Those that are as strong as each other may come in any order.
            for name, one, other in zip(
                spots._fields, spots.visible(6.0), expected.visible(6.0), strict=True
            ):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=name)


def test_memory_that_is_filled_by_the_caller_and_a_frame_that_cannot_be_judged(monkeypatch):
    frames = [one[0] for one in _frames("uint16")][:4]
    alone = [find_spots(frame) for frame in frames[:3]]
    frames[3] = np.full_like(frames[3], 65535)
    monkeypatch.setattr(many_frames, "on_cpu", lambda: False)
    monkeypatch.setattr(many_frames, "MOST_FRAMES_AT_ONCE", 4)
    for _ in range(2):
        memory = memory_at_once(frames[0].shape, "uint16")
        memory.array[:] = frames
        ((_, found),) = BatchFinder().each([memory], lambda batch: batch)
        np.testing.assert_allclose(
            [spots.expected for spots in found.each[:3]], [spots.expected for spots in alone], rtol=1e-4
        )
        assert str(found.each[3]) == "no pixel has a value that counts" and found.others == 1
        with pytest.raises(UserError, match="no pixel"):
            found.spots()
    with pytest.raises(UserError, match="mask has the shape"):
        BatchFinder(np.ones((3, 3), bool)).send(frames)


def test_of_no_frames_there_is_nothing_to_find(monkeypatch):
    assert BatchFinder().find([]).spots() == []
    monkeypatch.setattr(many_frames, "on_cpu", lambda: False)
    assert BatchFinder().find([]).spots() == []


def test_frames_that_threads_bring_are_judged_together_each_with_its_own_result(monkeypatch):
    frames = [(*one, None, None)[:3] for one in (*_frames("uint16"), *_frames("float32", 1))] * 3
    alone = [find_spots(frame, mask, limit=limit) for frame, mask, limit in frames[:10]] * 3
    sizes: list[int] = []
    find = BatchFinder.find

    def noted(self: BatchFinder, batch: Any) -> Any:
        sizes.append(len(batch))
        return find(self, batch)

    for module in (many_frames, together):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    monkeypatch.setattr(many_frames, "MOST_FRAMES_AT_ONCE", 4)
    monkeypatch.setattr(BatchFinder, "find", noted)
    finder = SpotFinder(6.0, 4)
    with ThreadPoolExecutor(len(frames)) as pool:
        found = list(pool.map(lambda one: finder.find(*one), frames))
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose([one.score, one.expected], [other.score, other.expected], atol=1e-4)
    assert 1 < max(sizes) <= 4
    with pytest.raises(UserError, match="no pixel"):
        finder.find(np.full((96, 144), 65535, np.uint16), None, None)
    # What goes wrong reaches each thread that waits, and the next frame is judged again.
    monkeypatch.setattr(BatchFinder, "find", lambda *_: [][1])
    with pytest.raises(IndexError):
        finder.find(*frames[0])
    monkeypatch.setattr(BatchFinder, "find", noted)
    assert finder.find(*frames[0]).score > 0.9
