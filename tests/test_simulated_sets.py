"""Simulated sets: their plan, their truth against an independent recount, and what their frames show."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from sfxjax.data.labels import classify
from sfxjax.errors import UserError
from sfxjax.simulate import detector as detectors
from sfxjax.simulate import sets as simulated_sets
from sfxjax.simulate.crystal import Reflections, still_reflections
from sfxjax.simulate.detector import pixel_grid
from sfxjax.simulate.parameters import SIMULATED_SETS, SimulatedSet, simulated_set
from sfxjax.simulate.sets import (
    CROP,
    VISIBLE_SIGNAL_TO_NOISE,
    ShotPlan,
    Truth,
    frame_centre,
    plan_run,
    simulate_frame,
    simulate_frames,
)

LO19 = SIMULATED_SETS["LO19"]
FRAMES = 16
SEED = 5


def simulate(
    index: np.ndarray,
    plan: ShotPlan,
    seed: int = SEED,
    parameters: SimulatedSet = LO19,
    shape: tuple[int, int] = (CROP, CROP),
) -> tuple[np.ndarray, Truth]:
    chosen = ShotPlan(*(column[index] for column in plan))
    frames, truth = simulate_frames(seed, index, chosen, parameters=parameters, shape=shape)
    return np.asarray(frames), jax.tree.map(np.asarray, truth)


@pytest.fixture(scope="module")
def plan() -> ShotPlan:
    return plan_run(LO19, FRAMES, SEED)


@pytest.fixture(scope="module")
def run(plan: ShotPlan) -> tuple[np.ndarray, Truth]:
    return simulate(np.arange(FRAMES), plan)


def test_unknown_name() -> None:
    with pytest.raises(
        UserError, match="no simulated set for the set 'LG36'; choose one of LN83, LN84, LO19"
    ):
        simulated_set("LG36")


def test_classes_are_the_experts() -> None:
    np.testing.assert_array_equal(classify([0, 3, 4, 9, 10, 900]), [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("name", SIMULATED_SETS)
def test_plan_has_the_real_proportions_and_spot_counts(name: str) -> None:
    parameters = SIMULATED_SETS[name]
    whole = plan_run(parameters, 2000, 1)
    classes = classify(whole.spots)
    assert tuple(np.bincount(classes)[::-1]) == parameters.class_counts
    for frames in (50, 333, 999):
        counts = np.bincount(classify(plan_run(parameters, frames, 1).spots), minlength=3)[::-1]
        np.testing.assert_allclose(counts, np.array(parameters.class_counts) * frames / 2000, atol=1)
    many = plan_run(parameters, 40000, 2).spots
    for table, low, high in ((parameters.hit_spots, 10, 10**6), (parameters.maybe_spots, 4, 9)):
        found = np.percentile(many[(many >= low) & (many <= high)], [5, 25, 50, 75, 95])
        np.testing.assert_allclose(found, table[1:-1], rtol=0.05, atol=0.6)
    assert np.all(whole.crystal[classes > 0])
    assert not np.any(whole.blank & whole.crystal)
    assert not np.any(whole.spots[~whole.crystal])
    assert np.mean(whole.crystal[classes == 0]) == pytest.approx(parameters.crystal_misses, abs=0.05)


def test_plan_is_set_by_its_seed() -> None:
    first, same, other = (plan_run(LO19, 200, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.spots, same.spots)
    assert np.any(first.spots != other.spots)
    assert np.any(plan_run(SIMULATED_SETS["LN83"], 200, 1).crystal != first.crystal)


def test_frames_do_not_depend_on_their_batch(plan: ShotPlan, run: tuple[np.ndarray, Truth]) -> None:
    frames, truth = run
    for first in (4, 8):
        part, part_truth = simulate(np.arange(first, first + 4), plan)
        np.testing.assert_array_equal(part, frames[first : first + 4])
        np.testing.assert_array_equal(part_truth.count, truth.count[first : first + 4])
        np.testing.assert_array_equal(part_truth.position, truth.position[first : first + 4])


def test_frames_are_set_by_their_seed(plan: ShotPlan, run: tuple[np.ndarray, Truth]) -> None:
    again, _ = simulate(np.arange(FRAMES), plan)
    np.testing.assert_array_equal(again, run[0])
    other, _ = simulate(np.arange(FRAMES), plan, seed=SEED + 1)
    assert np.mean(other == run[0]) < 0.1


@pytest.mark.slow
def test_mapping_over_frames_and_one_after_the_other_agree(
    plan: ShotPlan, run: tuple[np.ndarray, Truth]
) -> None:
    # An accelerator maps over the frames with vmap, where a CPU goes through them in turn.
    index = np.arange(4)
    run_key = jax.random.fold_in(jax.random.key(SEED), LO19.seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(run_key, number))(index)
    chosen = (jnp.asarray(column[index]) for column in plan)
    mapped = jax.vmap(lambda key, *what: simulate_frame(key, *what, parameters=LO19))
    frames, truth = mapped(keys, *chosen)
    difference = np.abs(np.asarray(frames, np.int32) - run[0][index])
    # Sums in another order may tip a value over to the next integer.
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3
    np.testing.assert_array_equal(truth.count, run[1].count[index])
    np.testing.assert_allclose(truth.signal_to_noise[:, :50], run[1].signal_to_noise[index, :50], rtol=1e-3)


def test_labels_are_as_planned(plan: ShotPlan, run: tuple[np.ndarray, Truth]) -> None:
    np.testing.assert_array_equal(run[1].count, plan.spots)


def recount(
    index: int, what: ShotPlan, shape: tuple[int, int], parameters: SimulatedSet
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and unscaled signal to noise of all reflections in a frame, in float64.

    Only the random draws, the list of reflections and the expected background are the simulator's own.
    """
    run_key = jax.random.fold_in(jax.random.key(SEED), parameters.seed)
    shot_key, crystal_key, size_key, _, _ = jax.random.split(jax.random.fold_in(run_key, index), 5)
    crystal = simulated_sets._draw_crystal(crystal_key, parameters)
    shot = simulated_sets._draw_shot(shot_key, parameters, what.blank[index])
    geometry, detector = parameters.geometry, parameters.detector
    found: Reflections = still_reflections(
        crystal, cell=parameters.cell, geometry=geometry, inverse_d_max=0.6, seed=parameters.seed
    )
    centre = np.array(geometry.beam_centre) - (1920 - np.array(shape)) / 2
    place = np.asarray(found.position, np.float64) + centre
    intensity = np.asarray(found.intensity, np.float64)
    kept = np.all((place >= 0) & (place < np.array(shape) - 1), axis=1) & (intensity > 0)
    place, intensity = place[kept], intensity[kept]
    brightest = np.argsort(-intensity)[: simulated_sets.REFLECTIONS_DRAWN]
    place, intensity = place[brightest], intensity[brightest]
    pixel = np.round(place).astype(int)
    expected = np.asarray(
        detectors.background(shot, detector, geometry, *pixel_grid(shape, tuple(map(float, centre)))),
        np.float64,
    )
    size = parameters.spot_size * float(jnp.exp(0.25 * jax.random.normal(size_key)))
    arm = place - centre
    radius = np.hypot(*arm.T)
    along = np.sqrt(size**2 + (float(crystal.bandwidth) * radius) ** 2 + 1 / 12)
    across = np.sqrt(size**2 + (0.5 * float(crystal.mosaicity) * radius) ** 2 + 1 / 12)
    offsets = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 2, indexing="ij"), -1).reshape(-1, 2)
    away = pixel[:, None] + offsets - place[:, None]
    unit = arm / radius[:, None]
    radial = np.einsum("nkd,nd->nk", away, unit)
    tangential = away[..., 0] * -unit[:, None, 1] + away[..., 1] * unit[:, None, 0]
    share = np.exp(-0.5 * (radial / along[:, None]) ** 2 - 0.5 * (tangential / across[:, None]) ** 2)
    nine = share[:, np.abs(offsets).max(axis=1) <= 1].sum(axis=1) / share.sum(axis=1)
    noise = 3 * np.sqrt(expected[tuple(pixel.T)] + (detector.read_noise / detector.gain) ** 2)
    hidden = np.hypot(*(pixel - centre).T) < detector.stop_radius
    return place, np.where(hidden, 0, intensity * nine / noise)


@pytest.mark.parametrize("shape", [(CROP, CROP), pytest.param((1920, 1920), marks=pytest.mark.slow)])
def test_truth_agrees_with_an_independent_recount(
    plan: ShotPlan, run: tuple[np.ndarray, Truth], shape: tuple[int, int]
) -> None:
    hits = np.flatnonzero(plan.spots >= 10)[:2]
    _, truth = (
        simulate(hits, plan, shape=shape)
        if shape[0] > CROP
        else (None, jax.tree.map(lambda x: x[hits], run[1]))
    )
    for row, index in enumerate(hits):
        place, ratio = recount(int(index), plan, shape, LO19)
        margin = (shape[0] - CROP) // 2
        in_crop = np.all((np.round(place) >= margin) & (np.round(place) < margin + CROP), axis=1)
        order = np.argsort(-ratio)
        # The scale is the simulator's choice: it is read off the brightest spot, all others then have to agree.
        scaled = ratio * float(truth.signal_to_noise[row, 0]) / ratio[order[0]]
        visible = order[: int(np.sum(scaled >= VISIBLE_SIGNAL_TO_NOISE))]
        said = truth.signal_to_noise[row] >= VISIBLE_SIGNAL_TO_NOISE
        assert abs(visible.size - said.sum()) <= 1
        least = min(visible.size, int(said.sum())) - 1
        np.testing.assert_allclose(scaled[order[:least]], truth.signal_to_noise[row, :least], rtol=0.01)
        np.testing.assert_allclose(
            np.sort(place[order[:least]], 0), np.sort(truth.position[row, :least], 0), atol=0.02
        )
        edge = scaled[in_crop & (np.abs(scaled / VISIBLE_SIGNAL_TO_NOISE - 1) < 0.01)].size
        assert abs(int(np.sum(in_crop & (scaled >= VISIBLE_SIGNAL_TO_NOISE))) - int(truth.count[row])) <= edge
        assert int(np.sum(said & truth.in_crop[row])) == truth.count[row] == plan.spots[index]


@pytest.mark.slow
def test_whole_detector_holds_the_crop_in_its_middle(plan: ShotPlan) -> None:
    misses = np.flatnonzero((plan.spots == 0) & ~plan.blank)[:2]
    whole, _ = simulate(misses, plan, shape=(1920, 1920))
    crop, _ = simulate(misses, plan)
    middle = whole[:, 598:1322, 598:1322]
    np.testing.assert_array_equal(middle == 0, crop == 0)
    blurred = [
        ndimage.uniform_filter(np.clip(frames, 0, 8000).astype(float), (0, 15, 15))
        for frames in (middle, crop)
    ]
    np.testing.assert_allclose(blurred[0][:, ::9, ::9], blurred[1][:, ::9, ::9], rtol=0.05, atol=30)


@pytest.mark.slow
def test_a_spot_at_the_threshold_stands_out_as_it_says() -> None:
    """Two thousand noisy images of one spot of signal to noise 6, in photons and in detector units."""
    level, count = 2500.0, 2000
    detector = LO19.detector
    position = jnp.array([[200.2, 99.7]])
    size = jnp.array([LO19.spot_size])
    middle, shares = detectors.spot_profile(position, size, size, (20.0 - 200, 20.0 - 100))
    nine = float(jnp.sum(shares[0, 3:6, 3:6]))
    strength = (
        VISIBLE_SIGNAL_TO_NOISE * 3 * np.sqrt(level + (detector.read_noise / detector.gain) ** 2) / nine
    )
    empty = jnp.full((41, 41), level)
    with_spot = detectors.add_spots(empty, middle, shares, jnp.array([strength]))

    def nine_pixels(images: jax.Array) -> np.ndarray:
        return np.asarray(images[:, 19:22, 19:22], np.float64).sum(axis=(1, 2))

    def stands_out(take) -> float:  # type: ignore[no-untyped-def]
        spot, none = (
            nine_pixels(
                jax.vmap(lambda key, mean=mean: take(key, mean))(
                    jax.random.split(jax.random.key(seed), count)
                )
            )
            for seed, mean in ((1, with_spot), (2, empty))
        )
        return float((spot.mean() - none.mean()) / none.std())

    def photons(key: jax.Array, mean: jax.Array) -> jax.Array:
        return detectors.poisson_like(mean, jax.random.normal(key, mean.shape))

    def recorded(key: jax.Array, mean: jax.Array) -> jax.Array:
        return detectors.expose(key, mean, mean > 0, 0 * mean, detector)

    assert stands_out(photons) == pytest.approx(VISIBLE_SIGNAL_TO_NOISE, rel=0.05)
    # The point spread takes signal out of the nine pixels, and more of the noise.
    assert stands_out(recorded) == pytest.approx(1.08 * VISIBLE_SIGNAL_TO_NOISE, rel=0.08)


def test_visible_spots_are_there_in_the_frame(plan: ShotPlan, run: tuple[np.ndarray, Truth]) -> None:
    frames, truth = run
    gain = LO19.detector.gain
    measured, promised = [], []
    for index in np.flatnonzero(plan.spots >= 10)[:4]:
        frame = frames[index].astype(float)
        smooth = ndimage.median_filter(frame, 9)
        excess = ndimage.uniform_filter(frame - smooth, 3) * 9 / gain
        kept = (truth.signal_to_noise[index] > 6) & (truth.signal_to_noise[index] < 40)
        ss, fs = np.round(truth.position[index][kept]).astype(int).T
        measured.append(excess[ss, fs] / (3 * np.sqrt(smooth[ss, fs] / gain)))
        promised.append(truth.signal_to_noise[index][kept])
    ratio, promise = np.concatenate(measured), np.concatenate(promised)
    assert ratio.size > 100
    assert np.corrcoef(ratio, promise)[0, 1] > 0.95
    assert 0.85 < np.median(ratio / promise) < 1.05


def test_hot_pixels_stay_through_the_run(plan: ShotPlan, run: tuple[np.ndarray, Truth]) -> None:
    frames, _ = run
    pulsed = frames[~plan.blank]
    lowest = pulsed.min(axis=0).astype(float)
    excess = lowest - ndimage.median_filter(lowest, 5)
    hot = np.argwhere(excess > 250)
    # Half of the run's hot pixels are placed in the crop; a few more may fall there by chance.
    assert LO19.detector.hot_pixels // 2 - 1 <= len(hot) <= LO19.detector.hot_pixels
    # They are the readout's fault, so the point spread does not blur them.
    assert all(excess[ss, fs] > 4 * excess[ss, fs + 1] for ss, fs in hot if fs + 1 < CROP)


def test_blank_and_stopped_pixels(plan: ShotPlan, run: tuple[np.ndarray, Truth]) -> None:
    frames, truth = run
    centre = frame_centre(LO19, (CROP, CROP))
    ss, fs = np.mgrid[:CROP, :CROP]
    stopped = np.hypot(ss - centre[0], fs - centre[1]) < LO19.detector.stop_radius
    assert not np.any(frames[:, stopped])
    assert np.all(truth.signal_to_noise[~plan.crystal] == 0)
    blank, _ = simulate(np.arange(4), ShotPlan(np.zeros(4, np.int32), np.zeros(4, bool), np.ones(4, bool)))
    assert np.median(blank) < 40
    assert np.median(frames[~plan.blank]) > 1000


def test_an_orientation_with_too_few_reflections_gives_what_it_has() -> None:
    ratio = jnp.array([9.0, 5.0, 1.0, 0.0, 0.0])
    scale = float(simulated_sets._scale_for(jnp.asarray(4), ratio, jnp.asarray(0.5)))
    visible = np.sum(np.asarray(ratio) * scale >= VISIBLE_SIGNAL_TO_NOISE)
    assert visible == 2
    assert scale < 100
    assert np.isfinite(float(simulated_sets._scale_for(jnp.asarray(4), jnp.zeros(5), jnp.asarray(0.5))))
    for count in range(3):
        scale = float(simulated_sets._scale_for(jnp.asarray(count), ratio, jnp.asarray(0.3)))
        assert np.sum(np.asarray(ratio) * scale >= VISIBLE_SIGNAL_TO_NOISE) == count


def test_sets_differ_as_the_real_ones_do() -> None:
    # Variance over mean, as DIALS estimated it on each real set.
    ratios = {name: 0.31 * parameters.detector.gain for name, parameters in SIMULATED_SETS.items()}
    assert ratios == pytest.approx({"LN83": 0.27, "LN84": 0.31, "LO19": 0.19}, rel=0.02)
    assert len({replace(parameters, name="") for parameters in SIMULATED_SETS.values()}) == len(
        SIMULATED_SETS
    )
