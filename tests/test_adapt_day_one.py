"""The day-one model adapted to a run without labels: what stays put is taken out, and nothing is made worse."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfxjax.command_line import call_of
from sfxjax.data.read import WholeFrame
from sfxjax.errors import UserError, run_main
from sfxjax.screen.spots import main as screen_spots
from sfxjax.simulate.conditions import Condition, draw_run
from sfxjax.simulate.inserted import moving_noise, with_spots
from sfxjax.spots.binning import binned_frame, binned_shape, unbinned_spots
from sfxjax.spots.day_one import FrameSpots, find_spots
from sfxjax.spots.fixed_pattern import PATTERN_FILE, FixedPattern, load_pattern, mean_pattern
from sfxjax.spots.frame_pixels import frame_pixels
from sfxjax.spots.recalibration import load
from sfxjax.spots.recurrence import recurring_places, shown_together
from sfxjax.spots.spot_size import spot_size
from sfxjax.training.adapt import main as adapt
from sfxjax.training.adapt_day_one import adapt_to_run
from sfxjax.training.adaptation_check import CHECKED, Check, CheckFrames, drawn_ratios


def seen(places: list[tuple[float, float]]) -> FrameSpots:
    ss, fs = np.array(places, float).reshape(-1, 2).T
    return FrameSpots(0.0, 0.0, 0.0, 0.0, ss, fs, np.full(len(ss), 9.0), np.ones(len(ss)), np.ones(len(ss)))


def crystals(rng: np.random.Generator, frames: int) -> list[list[tuple[float, float]]]:
    """Thirty spots in each third frame, anywhere."""
    return [
        [tuple(place) for place in rng.uniform(10, 290, (30, 2))] if number % 3 == 0 else []
        for number in range(frames)
    ]


def test_places_that_recur_are_found_and_those_of_crystals_are_not() -> None:
    rng = np.random.default_rng(0)
    spots = crystals(rng, 60)
    assert not recurring_places([seen(each) for each in spots], (300, 300)).any()
    hot = [(40.2, 50.1), (120.0, 200.4)]
    # One is seen in each frame, one in every third, by chance.
    for each in spots:
        each.append(hot[0])
        if rng.random() < 1 / 3:
            each.append(hot[1])
    found = [seen(each) for each in spots]
    places = recurring_places(found, (300, 300))
    assert places[40, 50] and places[120, 200] and places.mean() < 0.003
    assert not recurring_places(found[:10], (300, 300)).any()
    assert not shown_together(found, places)


def test_a_crystal_that_stays_for_some_frames_is_told_from_bad_pixels() -> None:
    rng = np.random.default_rng(1)
    still = [tuple(place) for place in rng.uniform(10, 290, (40, 2))]
    found = [seen(still if 10 <= number < 30 else []) for number in range(60)]
    places = recurring_places(found, (300, 300))
    assert places.any() and shown_together(found, places)


def test_the_pattern_is_what_differs_from_pixel_to_pixel_and_spots_leave_none() -> None:
    rng = np.random.default_rng(2)
    pattern = rng.normal(0, 5, (72, 96))
    pattern[10, 20] = 80
    frames = []
    for number in range(40):
        frame = 100 * (1 + 0.3 * np.sin(number)) * (1 + pattern / 100) + rng.normal(0, 4, pattern.shape)
        frame[30:33, 6 + 2 * number : 9 + 2 * number] += 300
        frame[:, 60] = np.nan
        frames.append(frame.astype(np.float32))
    found, level = mean_pattern(frames)
    assert np.isnan(found[:, 60]).all() and level == pytest.approx(
        np.median([np.nanmedian(f) for f in frames])
    )
    smooth = np.array(
        [[pattern[max(i - 5, 0) : i + 6, max(j - 5, 0) : j + 6].mean() for j in range(96)] for i in range(72)]
    )
    wanted = (pattern - smooth) * level / 100
    inner = np.s_[6:-6, 6:50]
    assert np.corrcoef(found[inner].ravel(), wanted[inner].ravel())[0, 1] > 0.97
    model = FixedPattern(np.zeros(pattern.shape, bool), np.nan_to_num(found), level)
    left = model.taken_out(frames[3], None, np.inf)[0]
    assert np.nanstd(left[40:, :50]) < 5.5 < np.nanstd(frames[3][40:, :50])


def test_pixels_that_most_frames_cut_off_keep_their_values() -> None:
    rng = np.random.default_rng(8)
    frames = [np.clip(rng.normal(-3, 6, (72, 96)).round(), 0, 255).astype(np.uint8) for _ in range(40)]
    for frame in frames:
        frame[:, 48:] = rng.normal(60, 6, (72, 48)).round().astype(np.uint8)
    known = [frame_pixels(frame, None, 0, np.inf).floats() for frame in frames]
    found, level = mean_pattern(known)
    assert np.isnan(found[:, :48]).mean() > 0.9 and np.isfinite(found[:, 48:]).all()
    frames[3][30:33, 20:23] = 90
    left = FixedPattern(np.zeros(found.shape, bool), found, level).taken_out(frames[3], None, np.inf)[0]
    unknown = np.isnan(found[30:33, 20:23])
    assert unknown.any() and (left[30:33, 20:23][unknown] == 90).all()


def test_inserted_spots_are_found_and_leave_the_type_and_the_gaps() -> None:
    rng = np.random.default_rng(3)
    for dtype, level in ((np.uint16, 3.0), (np.int32, 0.1), (np.float32, 200.0)):
        frame, other = rng.poisson(level, (2, 240, 240)).astype(dtype)
        if dtype == np.float32:
            frame, other = (each + rng.normal(0, 3, each.shape).astype(dtype) for each in (frame, other))
        noise = moving_noise(frame.astype(np.float32), other.astype(np.float32))
        hit = with_spots(rng, frame, None, None, [12.0] * 12, 1.0, noise)
        assert hit.dtype == frame.dtype and hit.shape == frame.shape and (hit >= frame).all()
        found = find_spots(hit)
        assert found.score > 0.9 and find_spots(frame).score < 0.1
        # As strong as was asked for.
        strong = np.sort(found.signal_to_noise[found.probability > 0.5])[::-1][:12]
        assert len(strong) == 12 and 10 < np.median(strong) < 14
    stacked = with_spots(
        rng, frame.reshape(2, 120, 240), np.ones((2, 120, 240), bool), None, [9.0], 1.0, noise
    )
    assert stacked.shape == (2, 120, 240)


def test_noise_that_moves_knows_nothing_of_what_stays_put() -> None:
    rng = np.random.default_rng(9)
    pattern = rng.normal(0, 40, (96, 96))
    one, other = (pattern + rng.normal(0, 5, (2, 96, 96))).astype(np.float32)
    one[:, 40:] = np.nan
    # Of white noise the response has the variance 9 + 81 / 40.
    assert moving_noise(one, other) == pytest.approx(np.full((96, 96), 5 * (9 + 81 / 40) ** 0.5), rel=0.12)


def test_simulated_frames_are_clear_hits_and_clear_misses_of_the_run_itself() -> None:
    rng = np.random.default_rng(10)
    frames = [WholeFrame(rng.poisson(2.0, (240, 240)).astype(np.uint16), None, 65535.0) for _ in range(16)]
    made = CheckFrames(frames, [0.0] * 16, 1.0, 0)
    numbers = [*range(10), *range(CHECKED, CHECKED + 10)]
    scores = [find_spots(made.frame(number).pixels).score for number in numbers]
    assert sum(score >= 0.5 for score in scores[:10]) >= 9 and sum(score < 0.5 for score in scores[10:]) >= 9
    assert (made.frame(3).pixels == made.frame(3).pixels).all()
    for hit in (True, False):
        for _ in range(50):
            ratios = drawn_ratios(rng, hit)
            deciding = np.sort(ratios)[-4] if len(ratios) > 3 else 0.0
            assert 7.5 <= deciding < 15 if hit else deciding < 4.8


def check(hits: int, misses: int, called: int) -> Check:
    right = np.zeros(2 * CHECKED, bool)
    right[:hits], right[CHECKED : CHECKED + misses] = True, True
    return Check(right, np.arange(50) < called)


def test_a_check_keeps_only_what_is_better_beyond_chance() -> None:
    before = check(40, 60, 20)
    gain = check(56, 60, 24).gain(before)
    # By hand: recall 16 of 64 on simulated hits and 4 of 24 on the run's own, their mean halved.
    assert gain.balanced == pytest.approx((16 / 64 + 4 / 24) / 4) and gain.sure
    assert gain.error == pytest.approx((16 / 128**2 + 4 / 48**2) ** 0.5 / 2)
    assert not check(42, 60, 21).gain(before).sure
    # False hits among the misses, as many as the run's own frames gain hits.
    more = check(56, 52, 25).gain(before)
    assert (
        more.own_recall == pytest.approx(5 / 25 - 8 / 64 * 25 / 25)
        and not check(56, 40, 30).gain(before).sure
    )
    # Hits of the run itself are not lost for simulated ones, but where false ones account for them.
    assert not check(64, 60, 15).gain(before).sure
    assert check(40, 64, 19).gain(check(40, 40, 20)).sure
    assert not check(30, 64, 22).gain(before).sure and not before.gain(before).sure


def test_pixels_are_summed_and_spots_come_back_to_their_places() -> None:
    frame = np.arange(2 * 7 * 9).reshape(2, 7, 9).astype(np.int32) + 1
    mask = np.ones(frame.shape, bool)
    mask[1, 2, 3] = False
    sums, known, limit = binned_frame(frame, mask, 1000.0, 2)
    assert (
        sums.shape == binned_shape(frame.shape, 2) == (2, 3, 4) and sums.dtype == np.int32 and limit == np.inf
    )
    assert sums[0, 1, 2] == frame[0, 2:4, 4:6].sum() and not known[1, 1, 1] and known.sum() == known.size - 1
    spots = seen([(0.0, 1.0), (2.0, 3.0), (4.0, 1.5)])
    back = unbinned_spots(spots, frame.shape, 2)
    # The third lies in the second panel's second row of sums, which is rows 2 and 3 of its 7.
    assert back.ss.tolist() == [0.5, 4.5, 7 + 2.5] and back.fs.tolist() == [2.5, 6.5, 3.5]
    assert unbinned_spots(spots, frame.shape[1:], 2).ss.tolist() == [0.5, 4.5, 8.5]


def test_the_size_of_spots_is_told_by_the_strong_ones() -> None:
    rng = np.random.default_rng(11)
    ss, fs = np.indices((120, 120))
    for size in (0.9, 2.0, 4.5):
        frames, found = [], []
        for _ in range(8):
            places = rng.uniform(20, 100, (4, 2))
            light = sum(300 * np.exp(-((ss - y) ** 2 + (fs - x) ** 2) / (2 * size**2)) for y, x in places)
            frames.append(rng.normal(50 + light, 5).astype(np.float32))
            found.append(seen([(y, x) for y, x in places])._replace(signal_to_noise=np.full(4, 20.0)))
        assert spot_size(frames, found) == (pytest.approx(size, rel=0.15), 32)
    assert spot_size(frames[:3], found[:3]) == (None, 12)


def test_a_frame_without_a_value_ends_no_adaptation() -> None:
    rng = np.random.default_rng(13)
    frames = [WholeFrame(rng.poisson(2.0, (240, 240)).astype(np.uint16), None, 65535.0) for _ in range(32)]
    frames[5] = WholeFrame(np.full((240, 240), 65535, np.uint16), None, 65535.0)
    adapted = adapt_to_run(frames)
    assert adapted.pattern is None and adapted.threshold == 0.5 and not adapted.before.called.any()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose analogue detector's pixels respond unevenly; a third of its frames are hits that are lost in that."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    rng = np.random.default_rng(4)
    response = 1 + 0.25 * rng.normal(size=(216, 216))
    frames = []
    for number in range(60):
        light = np.full(response.shape, 900.0)
        if number % 3 == 0:
            ss, fs = np.indices(response.shape)
            for y, x in rng.uniform(15, 200, (10, 2)):
                light += 260 * np.exp(-0.5 * ((ss - y) ** 2 + (fs - x) ** 2) / 0.9**2)
        frames.append(rng.normal(light * response, 12))
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.array(frames, np.float32)
    return path


@pytest.mark.slow
def test_wide_spots_are_found_in_sums_of_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(12)
    ss, fs = np.indices((216, 216))
    frames = []
    for number in range(80):
        light = np.full((216, 216), 20.0)
        if number % 3 == 0:
            for y, x in rng.uniform(25, 190, (8, 2)):
                light += rng.uniform(12, 25) * np.exp(-0.5 * ((ss - y) ** 2 + (fs - x) ** 2) / 4.5**2)
        frames.append(rng.poisson(light).astype(np.uint16))
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = np.array(frames)
    model = tmp_path / "model"
    adapt(["--model", "day-one", "--frames", str(tmp_path / "run.h5"), "--out", str(model)])
    assert "looked for in sums of 2 x 2 pixels" in capsys.readouterr().out
    pattern = load_pattern(model)
    assert pattern is not None and pattern.binned == 2 and not pattern.places.any()
    found = [find_spots(frame).score >= 0.5 for frame in frames[:60:3]]
    summed = [find_spots(*pattern.taken_out(frame, None, 65535.0)[:2]).score >= 0.5 for frame in frames[:60]]
    assert sum(found) < 5 and sum(summed[::3]) > 17 and sum(summed) - sum(summed[::3]) <= 1


def labels(folder: Path) -> list[str]:
    return [line.split(",")[4] for line in (folder / "frames.csv").read_text().splitlines()[1:]]


def test_a_pattern_is_taken_out_and_screening_applies_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "adapted model"
    adapt(["--model", "day-one", "--frames", str(run), "--out", str(model)])
    said = capsys.readouterr().out
    assert "adapted: the detector's pattern subtracted" in said and f"--model '{model}' --out DIR" in said
    # As this command was called, since no sfxjax need be on the path.
    assert f"next: {call_of('screen')} {run} --model" in said and "next: sfxjax" not in said
    before, after = tmp_path / "before", tmp_path / "after"
    assert screen_spots([str(run), "--out", str(before), "--no-report"]) == 0
    from sfxjax.screen.__main__ import main as screen

    assert screen([str(run), "--model", str(model), "--out", str(after), "--no-report"]) == 0
    wanted = ["HIT", "MISS", "MISS"] * 20
    right = [sum(a == b for a, b in zip(labels(folder), wanted, strict=True)) for folder in (before, after)]
    assert right[0] < 50 and right[1] >= 57
    assert "adapted to a run's frames" in capsys.readouterr().out


@pytest.mark.slow
def test_frames_without_anything_that_stays_are_left_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [
        f.values
        for f in islice(draw_run(5, Condition("counting", 3.0, 0.9, None, "none", (), (216, 216))), 36)
    ]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = np.array(frames)
    adapt(["--model", "day-one", "--frames", str(tmp_path / "run.h5"), "--out", str(tmp_path / "model")])
    assert "not adapted: nothing stays put" in capsys.readouterr().out
    model = load(tmp_path / "model")
    assert model is not None and model.labels == 0 and not (tmp_path / "model" / PATTERN_FILE).exists()


def test_bad_input_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "few.h5"
    with h5py.File(few, "w") as file:
        file["entry/data/data"] = np.random.default_rng(0).poisson(3, (20, 100, 100)).astype(np.uint16)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "anna.labels.jsonl").write_text("")
    for files, out, message in ((few, "a", "32 are needed"), (run, "labels", "holds labels")):
        command = ["--model", "day-one", "--frames", str(files), "--out", str(tmp_path / out)]
        assert run_main(lambda command=command: adapt(command)) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    (tmp_path / PATTERN_FILE).write_bytes(b"damaged")
    with pytest.raises(UserError, match="adapt again"):
        load_pattern(tmp_path)
    pattern = FixedPattern(np.zeros((4, 6), bool))
    with pytest.raises(UserError, match="adapted to frames of"):
        pattern.taken_out(np.zeros((5, 6)), None, np.inf)
    pattern.save(tmp_path)
    again = load_pattern(tmp_path)
    assert again is not None and again.pattern is None and not again.places.any() and again.binned == 1
    # As earlier versions wrote it, and with a number that no frame has.
    kept = {"places": pattern.places, "pattern": np.zeros((0, 0), np.float32), "level": np.float64(0)}
    np.savez(tmp_path / PATTERN_FILE, **kept)
    earlier = load_pattern(tmp_path)
    assert earlier is not None and earlier.binned == 1
    np.savez(tmp_path / PATTERN_FILE, **kept, binned=np.int64(9))
    with pytest.raises(UserError, match="sums of 9 pixels"):
        load_pattern(tmp_path)
