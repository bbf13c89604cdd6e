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
from sfxjax.simulate.inserted import with_spots
from sfxjax.spots.day_one import FrameSpots, find_spots
from sfxjax.spots.fixed_pattern import PATTERN_FILE, FixedPattern, load_pattern, mean_pattern
from sfxjax.spots.frame_pixels import frame_pixels
from sfxjax.spots.recalibration import load
from sfxjax.spots.recurrence import recurring_places, shown_together
from sfxjax.training import adapt_day_one
from sfxjax.training.adapt import main as adapt
from sfxjax.training.adapt_day_one import Adapted, Check, adapt_to_run


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
        frame = rng.poisson(level, (240, 240)).astype(dtype)
        if dtype == np.float32:
            frame = (frame + rng.normal(0, 3, frame.shape)).astype(dtype)
        hit = with_spots(rng, frame, None)
        assert hit.dtype == frame.dtype and hit.shape == frame.shape and (hit >= frame).all()
        assert find_spots(hit).score > 0.9 and find_spots(frame).score < 0.1
    stacked = with_spots(rng, frame.reshape(2, 120, 240), np.ones((2, 120, 240), bool))
    assert stacked.shape == (2, 120, 240)


def test_a_check_keeps_only_what_is_clearly_better() -> None:
    assert Check(25, 30).better(Check(16, 31)) and not Check(23, 31).better(Check(16, 31))
    assert not Check(32, 20).better(Check(20, 30)) and not Check(16, 31).better(Check(16, 31))
    assert Check(20, 30).may_lose_hits(Check(20, 22)) and not Check(29, 30).may_lose_hits(Check(20, 23))


def held_hits_lost(monkeypatch: pytest.MonkeyPatch, blanks_right_before: int) -> Adapted:
    """Adapt where the check is better afterwards by far, and half of the hits held out are lost."""
    frames = [WholeFrame(np.full((64, 64), number, np.float32), None, np.inf) for number in range(40)]

    def spots(pixels: np.ndarray, mask: np.ndarray | None, *, limit: float) -> FrameSpots:
        number, subtracted = float(pixels[0, 0]), mask is not None
        if number >= 200:
            hit = number - 200 >= (32 if subtracted else blanks_right_before)
        elif number >= 100:
            hit = subtracted or number < 110
        else:
            hit = number < (10 if subtracted else 20)
        return seen([])._replace(score=float(hit))

    def subtract(pattern: FixedPattern, pixels: np.ndarray, mask: None, limit: float) -> tuple:
        return pixels, np.ones(pixels.shape, bool), limit

    def check_frames(*_: object) -> tuple[list[WholeFrame], list[WholeFrame]]:
        return tuple(  # type: ignore[return-value]
            [WholeFrame(np.full((64, 64), start + number, np.float32), None, np.inf) for number in range(32)]
            for start in (200, 100)
        )

    monkeypatch.setattr(adapt_day_one, "find_spots", spots)
    monkeypatch.setattr(adapt_day_one, "_check_frames", check_frames)
    monkeypatch.setattr(FixedPattern, "taken_out", subtract)
    return adapt_to_run(frames)


def test_hits_of_the_run_itself_are_not_lost_for_simulated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = held_hits_lost(monkeypatch, blanks_right_before=31)
    assert refused.pattern is None and "5 hits where the model as it is finds 10" in refused.why
    # Where blank frames were called hits, those that are lost may have been false.
    assert held_hits_lost(monkeypatch, blanks_right_before=20).pattern is not None


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
    assert again is not None and again.pattern is None and not again.places.any()
