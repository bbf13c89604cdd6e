"""The day-one model: whole frames of any detector to spots and a number of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from sfxjax.errors import UserError
from sfxjax.simulate.artefacts import LIGHT, READING
from sfxjax.simulate.conditions import Condition, draw_frame
from sfxjax.simulate.visibility import ratio_of, responses
from sfxjax.spots.block_noise import (
    REACH,
    RESPONSE_VARIANCE,
    Cells,
    median_of_nine,
    significance,
    without_spots,
)
from sfxjax.spots.candidates import find_candidates
from sfxjax.spots.day_one import WEIGHTS, count_distribution, find_spots, model_card
from sfxjax.spots.frame_pixels import MARGIN, NOISE_BLOCK, frame_pixels

pytestmark = pytest.mark.usefixtures("compiled_at_once")

PLACES = [(40.3, 50.6), (100.2, 61.4), (150.0, 160.3), (60.7, 170.2), (181.4, 30.8), (20.1, 120.5)]


def crystal_frame(
    level: float, height: float, seed: int = 0, shape: tuple[int, int] = (216, 192)
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ss, fs = np.indices(shape)
    mean = np.full(shape, level)
    for y, x in PLACES if height else ():
        mean += height * np.exp(-0.5 * ((ss - y) ** 2 + (fs - x) ** 2) / 0.9**2)
    return rng.poisson(mean).astype(np.uint16)


def test_number_of_spots_is_the_sum_of_independent_choices():
    rng = np.random.default_rng(1)
    p = rng.random(30)
    found = np.asarray(count_distribution(p, 12))
    exact = np.array([1.0])
    for one in p:
        exact = np.convolve(exact, [1 - one, one])
    np.testing.assert_allclose(found[:12], exact[:12], atol=1e-6)
    np.testing.assert_allclose(found[12], exact[12:].sum(), atol=1e-5)


def test_significance_is_that_of_poisson_counts_and_of_a_normal_variable_in_the_limit():
    # Counts of which chance gives as many or more as rarely as a normal variable exceeds the ratio.
    for expected, counts in ((0.5, 8), (3.0, 18), (30.0, 70)):
        chance = stats.poisson.sf(counts - 1, expected) - 0.5 * stats.poisson.pmf(counts, expected)
        found = float(significance(counts - expected, expected**0.5, 1.0))
        assert found == pytest.approx(stats.norm.isf(chance), rel=0.06)
    assert float(significance(600.0, 100.0, 1e-3)) == pytest.approx(6, rel=1e-3)


@pytest.mark.parametrize("level", [0.3, 3.0, 300.0])
def test_spots_are_found_to_a_fraction_of_a_pixel_and_noise_is_none(level):
    # Well above the threshold of sight: a ratio of about 9.
    height = 10 + 8 * level**0.5
    hit, miss = find_spots(crystal_frame(level, height)), find_spots(crystal_frame(level, 0))
    assert hit.score > 0.9 and miss.score < 0.1
    visible = hit.spots()
    for y, x in PLACES:
        assert np.hypot(hit.ss[visible] - y, hit.fs[visible] - x).min() < 0.5
    assert miss.spots().sum() <= 1
    assert hit.fourth > 6 > miss.fourth


def test_panels_give_the_same_spots_as_an_image():
    frame = crystal_frame(3.0, 30.0)
    whole = find_spots(frame)
    panels = find_spots(np.stack([crystal_frame(3.0, 0.0, 5), frame]))
    assert panels.spots().sum() == whole.spots().sum()
    y, x = PLACES[0]
    chosen = panels.spots()
    assert np.hypot(panels.ss[chosen] - 216 - y, panels.fs[chosen] - x).min() < 0.5


@pytest.mark.parametrize("panels", [1, 2, 16, 40])
@pytest.mark.parametrize("rows", [6, 64, 512])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_mask_of_panels_leaves_out_its_pixels_and_no_others(panels, rows, dtype):
    frame = np.random.default_rng(panels).poisson(3.0, (panels, rows, 64)).astype(dtype)
    mask = np.ones(frame.shape, bool)
    mask[-1, rows // 3 :: 2, 10:30] = False
    bare, masked = (frame_pixels(frame, given).floats() for given in (None, mask))
    tall = bare.reshape(panels, -1, 64)
    tall[:, :rows][~mask] = np.nan
    np.testing.assert_array_equal(masked, bare)


def test_what_the_user_calls_visible_decides():
    frame = crystal_frame(300.0, 120.0)
    assert find_spots(frame, min_snr=6).score > 0.9 > 0.1 > find_spots(frame, min_snr=500).score
    assert find_spots(frame, min_spots=len(PLACES) + 4).score < 0.5
    with pytest.raises(UserError, match="min_spots"):
        find_spots(frame, min_spots=0)
    with pytest.raises(UserError, match="mask"):
        find_spots(frame, np.ones((3, 3), bool))


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [(-1, np.int32), (0, np.uint16), (65535, np.uint16), (137, np.uint16), (np.nan, np.float32)],
)
def test_gaps_tell_nothing_whatever_they_hold(fill, dtype):
    frame = crystal_frame(300.0, 0).astype(dtype)
    frame[90:100], frame[:, 60:66] = fill, fill
    values = frame_pixels(frame).floats()
    assert np.isnan(values[90:100]).mean() > 0.95 and np.isnan(values[:, 60:66]).mean() > 0.95
    # Pixels that happen to read as much are live.
    assert np.isfinite(np.delete(values, np.s_[90:100], 0)[:, :60]).mean() > 0.99
    assert find_spots(frame).score < 0.1


def test_frames_of_zeros_show_nothing_and_frames_without_a_value_are_refused():
    for dtype in (np.int32, np.float32, np.uint16):
        found = find_spots(np.zeros((100, 90), dtype))
        assert found.score < 0.01 and np.isfinite(found.expected)
    for frame in (np.full((100, 90), np.nan, np.float32), np.full((64, 64), 7)):
        with pytest.raises(UserError, match="no pixel has a value that counts"):
            find_spots(frame)


def test_hot_pixels_are_no_spots():
    frame = crystal_frame(300.0, 0)
    rng = np.random.default_rng(3)
    frame[rng.integers(0, 216, 40), rng.integers(0, 192, 40)] += 2000
    assert find_spots(frame).score < 0.1


def test_candidates_do_not_depend_on_the_offset_of_an_integrating_detector():
    frame = crystal_frame(300.0, 100.0)
    one, other = (
        find_candidates(frame_pixels(frame + offset)._replace(counting=False, integers=True))
        for offset in (1000, 1500)
    )
    np.testing.assert_allclose(one.signal_to_noise[:6], other.signal_to_noise[:6], rtol=2e-3)


def test_spots_stand_out_as_far_on_a_steep_slope_as_on_an_even_background():
    frame = crystal_frame(300.0, 100.0) + 3000
    slope = 6 * np.arange(len(frame))[:, None] + 9 * np.arange(frame.shape[1])
    even, steep = (
        find_candidates(frame_pixels(each)._replace(counting=False, integers=True))
        for each in (frame, frame + slope)
    )
    inside = [
        np.minimum(np.minimum(c.ss, 215 - c.ss), np.minimum(c.fs, 191 - c.fs)) > 36 for c in (even, steep)
    ]
    strongest = [
        np.asarray(c.signal_to_noise)[chosen][:2] for c, chosen in zip((even, steep), inside, strict=True)
    ]
    np.testing.assert_allclose(strongest[1], strongest[0], rtol=0.05)


def test_every_part_of_the_simulation_can_be_drawn_from_a_seed():
    for name in (*LIGHT, *READING):
        one, other = (
            draw_frame(np.random.default_rng(4), Condition(parts=(name,), shape=(240, 264))) for _ in range(2)
        )
        assert one.values.shape == (240, 264)
        np.testing.assert_array_equal(one.values, other.values)
        assert len(one.places) == len(one.signal_to_noise)


@pytest.mark.parametrize(
    ("detector", "level", "parts"),
    [
        ("counting", 20.0, ()),
        ("integrating", 2000.0, ()),
        ("eight_bit", 20.0, ()),
        ("integrating", 300.0, ("uneven_response",)),
        ("counting", 20.0, ("flickering_pixels", "noisy_areas")),
    ],
)
def test_simulated_truth_is_what_the_finder_measures(detector, level, parts):
    measured, truth = [], []
    for seed in range(6):
        frame = draw_frame(
            np.random.default_rng(seed),
            Condition(detector=detector, level=level, spots=15, spot_size=0.8, parts=parts, gaps="none"),
        )
        found = find_candidates(frame_pixels(frame.values))
        ratios = np.asarray(found.signal_to_noise)
        for (y, x), ratio in zip(frame.places, frame.signal_to_noise, strict=True):
            away = np.where(ratios > 0, np.hypot(found.ss - y, found.fs - x), np.inf)
            if 8 < ratio < 30 and away.min() < 1.5:
                measured.append(ratios[away.argmin()])
                truth.append(ratio)
    assert len(truth) > 25
    assert np.median(np.array(measured) / truth) == pytest.approx(1, abs=0.1)


def test_speckle_hides_spots_that_photons_alone_would_show():
    even, speckled = (
        draw_frame(np.random.default_rng(3), Condition("counting", 50.0, 0.8, 20, "none", parts, (240, 264)))
        for parts in ((), ("uneven_response",))
    )
    np.testing.assert_allclose(even.among_photons, even.signal_to_noise, rtol=0.02)
    assert np.all(speckled.among_photons > 1.3 * speckled.signal_to_noise)


def test_weights_are_small_and_have_a_card():
    assert WEIGHTS.stat().st_size < 1_000_000
    assert model_card()["candidates"] > 10_000


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.int64, np.float32, ">f8"]
)
def test_a_frame_of_any_type_is_read_as_it_is_within_its_margin(dtype):
    frame = np.random.default_rng(2).integers(1, 100, (3, 50, 70)).astype(dtype)
    mask = np.random.default_rng(3).random(frame.shape) > 0.1
    ready = frame_pixels(frame, mask, 6)
    expected = np.full((3, 56, 70), np.nan)
    expected[:, :50] = np.where(mask, frame, np.nan)
    np.testing.assert_array_equal(ready.floats(), expected.reshape(-1, 70))
    assert all((length - 2 * MARGIN) % NOISE_BLOCK == 0 for length in ready.values.shape)


def test_the_median_of_neighbouring_blocks_is_that_of_those_known():
    values = np.random.default_rng(4).random((9, 11)).astype(np.float32)
    values[np.random.default_rng(5).random(values.shape) < 0.6] = np.nan
    wide = np.pad(values, 1, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(wide, (3, 3)).reshape(9, 11, 9)
    with warnings.catch_warnings(action="ignore"):
        expected = np.nanmedian(around, -1)
    np.testing.assert_allclose(median_of_nine(values), expected, rtol=1e-6)


def test_spots_that_crowd_do_not_raise_the_noise_that_they_are_seen_in():
    level, shape = 30.0, (216, 192)
    ss, fs = np.indices(shape)
    places = [(y, x) for y in range(12, 210, 17) for x in range(12, 186, 17)]
    light = sum(70.0 * np.exp(-0.5 * ((ss - y) ** 2 + (fs - x) ** 2) / 0.8**2) for y, x in places)
    frame = np.random.default_rng(1).poisson(level + light).astype(np.uint16)
    expected = float(ratio_of(responses(light)[places[50]], RESPONSE_VARIANCE * level, 1.0))
    found = find_spots(frame).visible()
    assert len(found.ss) >= 0.95 * len(places)
    assert np.median(found.signal_to_noise) == pytest.approx(expected, rel=0.07)
    with_their_light = np.asarray(find_candidates(frame_pixels(frame)).signal_to_noise)[: len(places)]
    assert np.median(with_their_light) < 0.8 * expected


def test_cells_that_a_spot_reaches_are_left_out():
    cells = Cells(*np.random.default_rng(2).random((3, 12, 18)).astype(np.float32))
    # The third is no spot, the fourth lies on the rim.
    ss, fs = np.array([20.4, 21.0, 33.0, -0.4]), np.array([30.2, 36.0, 12.0, 71.2])
    spots = np.array([True, True, False, True])
    rows, columns = np.indices((48, 72))
    near = np.zeros((48, 72), bool)
    for y, x in zip(ss[spots], fs[spots], strict=True):
        near |= (np.abs(rows - y) < REACH) & (np.abs(columns - x) < REACH)
    reached = near.reshape(12, 4, 18, 4).any((1, 3))
    assert 10 < reached.sum() < 40
    for before, after in zip(cells, without_spots(cells, ss, fs, spots), strict=True):
        np.testing.assert_array_equal(after, np.where(reached, 0, before))


def test_zeros_of_a_dark_frame_count_beside_hot_pixels_and_noisy_areas() -> None:
    rng = np.random.default_rng(4)
    frame = rng.poisson(0.01, (480, 480)).astype(np.int32)
    frame[rng.integers(0, 480, 40), rng.integers(0, 480, 40)] = 90
    # Most of what is counted is in here.
    frame[60:160, 200:320] = rng.normal(200, 60, (100, 120)).clip(0)
    assert np.median(frame[frame > 0]) > 100
    shape = 8 * np.outer(*[np.exp(-0.5 * np.arange(-1, 2) ** 2)] * 2)
    for k in range(8):
        ss, fs = 220 + 30 * k, 40 + 50 * k
        frame[ss - 1 : ss + 2, fs - 1 : fs + 2] += rng.poisson(shape).astype(np.int32)
    ready = frame_pixels(frame)
    assert ready.counting and 0 not in ready.invalid
    found = find_spots(frame).visible()
    places = [(220 + 30 * k, 40 + 50 * k) for k in range(8)]
    near = [np.hypot(found.ss - ss, found.fs - fs).min(initial=np.inf) < 3 for ss, fs in places]
    assert sum(near) >= 6
    # Where areas count by themselves, fewer of the lone pixels are 1.
    noisy = rng.poisson(0.01, (240, 240)).astype(np.int32)
    noisy[20:120, 30:200] += 7 * rng.poisson(0.06, (100, 170)).astype(np.int32)
    assert np.mean(noisy[noisy > 0] == 1) < 0.4
    ready = frame_pixels(noisy)
    assert ready.counting and 0 not in ready.invalid
    # Of an integrating detector that stores all below its background as 0, zeros tell nothing.
    clipped = np.round(rng.normal(-2, 12, (480, 480))).clip(0).astype(np.int32)
    assert 0 in frame_pixels(clipped).invalid


@pytest.mark.parametrize("mean", [0.3, 0.5, 1.0, 1.41, 2.45, 6.0])
def test_photons_of_dim_frames_are_no_gaps_and_gaps_beside_them_are(mean: float) -> None:
    rng = np.random.default_rng(round(100 * mean))
    for shape, dtype in (((480, 480), np.uint16), ((160, 208), np.int32), ((160, 208), np.float32)):
        frame = rng.poisson(mean, shape).astype(dtype)
        assert not np.isnan(frame_pixels(frame).floats()).any(), (shape, dtype)
        gap = np.zeros(shape, bool)
        gap[60:72] = True
        frame[gap] = 37
        np.testing.assert_array_equal(np.isnan(frame_pixels(frame).floats()), gap)


@pytest.mark.parametrize("level", [0.05, 0.5, 3.0, 30.0])
def test_photons_times_any_factor_show_the_same_spots(level: float) -> None:
    for height in (10 + 8 * level**0.5, 0):
        photons = crystal_frame(level, height)
        known = find_spots(photons)
        assert (known.score > 0.9) == (height > 0)
        for factor, dtype in (
            (1e-3, np.float32),
            (0.5, np.float32),
            (30, np.uint16),
            (200, np.int32),
            (1e6, np.float32),
        ):
            found = find_spots((photons.astype(np.float64) * factor).astype(dtype))
            # Only the types differ, in which sums are rounded.
            assert found.score == pytest.approx(known.score, abs=1e-3), (factor, dtype)
            shown, expected = found.visible(), known.visible()
            np.testing.assert_allclose(shown.ss, expected.ss, atol=0.02)
            np.testing.assert_allclose(shown.fs, expected.fs, atol=0.02)
            np.testing.assert_allclose(shown.signal, expected.signal * factor, rtol=1e-3)


def saturated_frame(top: float, gaps: bool, spots: bool = True) -> np.ndarray:
    """A hit whose spots' hearts hold some 200 pixels at the highest value, as gaps do as well."""
    ss, fs = np.indices((216, 192))
    light = sum(np.exp(-0.5 * ((ss - y) ** 2 + (fs - x) ** 2) / 1.3**2) for y, x in PLACES)
    mean = 20 + (30 * top * light if spots else 0 * light)
    frame = np.minimum(np.random.default_rng(2).poisson(mean), top)
    assert 150 < (frame == top).sum() < 300 or not spots
    if gaps:
        frame[124:132], frame[:, 80:84] = top, top
        dead = (ss % 13 == 5) & (fs % 17 == 15) & (light * top < 1e-3)
        frame[dead] = top
    return frame


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(np.uint16, 65535), (np.uint16, 20000), (np.int32, 65535), (np.int32, 2**20 - 1), (np.float32, 1000)],
)
@pytest.mark.parametrize("gaps", [False, True])
def test_spots_with_saturated_hearts_count_and_gaps_of_the_same_value_do_not(dtype, top, gaps):
    frame = saturated_frame(top, gaps).astype(dtype)
    found = find_spots(frame).visible()
    assert found.score > 0.9 and len(found.ss) == len(PLACES)
    for y, x in PLACES:
        assert np.hypot(found.ss - y, found.fs - x).min() < 0.5
    held = np.isnan(frame_pixels(frame).floats())
    blank = saturated_frame(top, gaps, spots=False).astype(dtype)
    np.testing.assert_array_equal(held, blank == top)
    assert find_spots(blank).score < 0.1
