"""The day-one model: how many Bragg spots a frame shows, on a detector never seen, without labels or training.

`sfxjax.spots.candidates` names the places of a frame that may be spots; a small network tells of each, from its patch,
what lies around it and the statistics of its noise, the probability that it is a Bragg spot, which `sfxjax.spots.frame_context`
corrects by what the frame's other candidates are like. A spot is *visible* if its signal-to-noise ratio, as defined there, is at
least `min_snr`; since the ratio is measured with noise, that too is a matter of probability. The number of visible spots is a sum
of choices (Poisson-binomial, but for an error that all of them share), and a frame's score is the probability that there are at
least `min_spots`.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.compilation import jit_for_device
from sfxjax.errors import UserError
from sfxjax.spots.candidates import Candidates, candidates_and_noise, ratio_without_spots
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.spots.frame_context import ERROR_WEIGHTS, among_others, with_shared_errors
from sfxjax.spots.frame_pixels import FramePixels
from sfxjax.spots.prepare import PreparedFrame, prepare_frame, separator

MANY_SPOTS = 10
# A place of this probability counts as a spot where single spots are listed.
SPOT_PROBABILITY = 0.5
# A measured ratio differs from the true one by noise of 1, by its definition, and is on average so much too high, since weak
# spots are more common than strong ones. Chosen on simulated frames, for the smallest calibration error.
RATIO_NOISE = 1.0
RATIO_BIAS = 0.2
WEIGHTS = Path(__file__).with_name("day_one.npz")
_COUNTED = 24

Weights = dict[str, jax.Array]


class FrameSpots(NamedTuple):
    """What a frame shows.

    Attributes:
        score: probability of at least `min_spots` visible spots.
        many: probability of at least 10.
        expected: expected number.
        fourth: signal-to-noise ratio of the `min_spots`-th strongest spot, 0 where there are fewer.
        ss: (n,) rows of the candidates' centroids, of (panel, ss, fs) stacks with panel * height added.
        fs: (n,) columns.
        signal_to_noise: (n,) falling.
        probability: (n,) of being a Bragg spot.
        signal: (n,) sum over 3 x 3 pixels above the background, detector units; infinite where float32 does not hold it.
    """

    score: float
    many: float
    expected: float
    fourth: float
    ss: np.ndarray
    fs: np.ndarray
    signal_to_noise: np.ndarray
    probability: np.ndarray
    signal: np.ndarray

    def spots(self, min_snr: float = MIN_SNR) -> np.ndarray:
        """Return which candidates are visible spots, bool (n,)."""
        return (self.probability >= SPOT_PROBABILITY) & (self.signal_to_noise >= min_snr)

    def visible(self, min_snr: float = MIN_SNR) -> FrameSpots:
        """Return the same without the candidates that are no visible spots."""
        kept = self.spots(min_snr)
        names = ("ss", "fs", "signal_to_noise", "probability", "signal")
        return self._replace(**{name: getattr(self, name)[kept] for name in names})


class Judged(NamedTuple):
    """What the device tells of a frame.

    Attributes:
        counts: (25,) see `count_distribution`, of the visible spots.
        expected: their expected number.
        ss: (n,) of the candidates, as are those that follow; see `sfxjax.spots.candidates.Candidates`.
        fs: (n,).
        signal_to_noise: (n,).
        probability: (n,) of being a Bragg spot.
        signal: (n,).
    """

    counts: Any
    expected: Any
    ss: Any
    fs: Any
    signal_to_noise: Any
    probability: Any
    signal: Any


def features(found: Candidates) -> jax.Array:
    """Return what the network reads of each candidate, (n, features) float32."""
    count = found.ss.shape[0]
    ratio = jnp.maximum(found.signal_to_noise, 0.1)
    peak = jnp.maximum(jnp.max(jnp.where(found.live, found.patch, 0)[:, 4:9, 4:9], (1, 2)), 1.0)
    noise = jnp.arcsinh(found.patch / 2).reshape(count, -1)
    shape = (found.patch / peak[:, None, None]).clip(-1, 1.5).reshape(count, -1)
    lost = (~found.live).astype(jnp.float32).reshape(count, -1)
    context = jnp.log(found.context + 1).reshape(count, -1)
    relative = (found.context / ratio[:, None, None]).clip(0, 2).reshape(count, -1)
    near = found.highest[:, :-1]
    # Opposite places that are as bright tell lines and rings.
    middle = found.patch
    pairs = jnp.minimum(middle, middle[:, ::-1, ::-1]) / peak[:, None, None]
    line = jnp.stack(
        [
            pairs[:, 2:11, 2:11].at[:, 2:7, 2:7].set(-1).max((1, 2)),
            pairs.at[:, 1:12, 1:12].set(-1).max((1, 2)),
        ],
        -1,
    )
    ratios = jnp.log(near + 1) - jnp.log(ratio + 1)[:, None]
    scalars = found.scalars.clip(-5, 5)
    return jnp.concatenate(
        [noise, shape, lost, context, relative, ratios, line.clip(-1, 1), scalars, jnp.log(ratio)[:, None]], 1
    )


def hidden_and_logits(weights: Weights, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the network's last hidden layer (n, features), and the log odds of each candidate's being a Bragg spot, by itself.

    Args:
        weights: of `load_weights`.
        inputs: (n, features).
    """
    hidden = (inputs - weights["mean"]) / weights["deviation"]
    layer = 0
    while f"kernel{layer + 1}" in weights:
        hidden = jax.nn.gelu(hidden @ weights[f"kernel{layer}"] + weights[f"bias{layer}"])
        layer += 1
    return hidden, (hidden @ weights[f"kernel{layer}"] + weights[f"bias{layer}"])[:, 0]


def count_distribution(probability: jax.Array, most: int = _COUNTED) -> jax.Array:
    """Return the probabilities of 0, 1, ... most - 1, and of at least most, independent choices, (most + 1,).

    In groups first, all of them one choice at a time, and then one group at a time: an accelerator takes a while for each step.
    """
    groups = math.ceil(math.sqrt(probability.shape[0]))
    padding = -probability.shape[0] % groups
    each = jnp.pad(probability, (0, padding)).reshape(groups, -1)
    none = jnp.zeros(most + 1).at[0].set(1.0)

    def add_choice(state: jax.Array, p: jax.Array) -> tuple[jax.Array, None]:
        p = p[:, None]
        moved = jnp.pad(state[:, :-1] * p, ((0, 0), (1, 0)))
        # The last entry keeps all that reaches it.
        stay = (state * (1 - p)).at[:, -1].set(state[:, -1])
        return stay + moved, None

    of_groups = jax.lax.scan(add_choice, jnp.tile(none, (groups, 1)), each.T)[0]
    have, want = jnp.arange(most + 1)[:, None], jnp.arange(most + 1)
    more = want - have

    def add_group(state: jax.Array, group: jax.Array) -> tuple[jax.Array, None]:
        at_least = jnp.cumsum(group[::-1])[::-1]
        step = jnp.where(more >= 0, jnp.where(want == most, at_least[more], group[more]), 0)
        return jnp.sum(state[:, None] * step, 0), None

    return jax.lax.scan(add_group, none, of_groups)[0]


def count_visible(
    logits: jax.Array, error: jax.Array, ratio: jax.Array, min_snr: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Return the distribution of the number of visible spots, see `count_distribution`, and the expected number.

    Args:
        logits: (n,) log odds of each candidate's being a spot.
        error: standard deviation of the error that they share.
        ratio: (n,) signal-to-noise, 0 where there is no candidate.
        min_snr: from which a spot is visible.
    """
    above = jax.scipy.stats.norm.cdf((ratio - RATIO_BIAS - min_snr) / RATIO_NOISE) * (ratio > 0)
    visible = with_shared_errors(logits, error) * above
    shares = jnp.asarray(ERROR_WEIGHTS)
    return shares @ jax.vmap(count_distribution)(visible), shares @ visible.sum(1)


def judge(weights: Weights, pixels: FramePixels, min_snr: jax.Array | float) -> Judged:
    """Judge the places of a frame that may be spots; `finish` makes `FrameSpots` of what it gives.

    Args:
        weights: of `load_weights`.
        pixels: of `prepare_frame`.
        min_snr: signal-to-noise ratio from which a spot is visible.
    """
    found, measured = candidates_and_noise(pixels)
    hidden, alone = hidden_and_logits(weights, features(found))
    logits, error = among_others(weights, hidden, alone, found.signal_to_noise)
    # Where spots crowd, they hide each other in the noise that they make themselves.
    ratio = ratio_without_spots(found, measured, jax.nn.sigmoid(logits) >= SPOT_PROBABILITY, pixels)
    order = jnp.argsort(-ratio)
    found = found._replace(signal_to_noise=ratio)
    found, logits = jax.tree.map(lambda part: part[order], (found, logits))
    counts, expected = count_visible(logits, error, found.signal_to_noise, min_snr)
    probability = jax.nn.sigmoid(logits)
    return Judged(counts, expected, found.ss, found.fs, found.signal_to_noise, probability, found.signal)


_judge_one = jit_for_device(judge)


def find_spots(
    frame: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    limit: float | None = None,
    weights: Weights | None = None,
    min_snr: float = MIN_SNR,
    min_spots: int = MIN_SPOTS,
) -> FrameSpots:
    """Find the spots of a whole frame.

    Args:
        frame: (ss, fs) or (panel, ss, fs), detector units, any real type.
        mask: bool of that shape, True where a pixel counts; or None.
        limit: value from which pixels tell nothing; None: by the frame's own values, see `sfxjax.pixels.missing_values`.
        weights: of the network; by default those shipped.
        min_snr: signal-to-noise ratio from which a spot is visible.
        min_spots: visible spots from which a frame is a hit, at most 24.

    Returns:
        Score and spots; places are in pixels, rows of stacks counted from the first panel's, and sums in detector units.

    Raises:
        UserError: a number makes no sense, the mask does not fit, or no pixel has a value that counts.
    """
    check_min_spots(min_spots)
    weights = load_weights() if weights is None else weights
    return spots_of(prepare_frame(frame, mask, limit), weights, min_snr, min_spots)


def spots_of(
    frame: PreparedFrame, weights: Weights, min_snr: float = MIN_SNR, min_spots: int = MIN_SPOTS
) -> FrameSpots:
    """Find the spots of a frame that is made ready; see `find_spots`."""
    judged = jax.device_get(_judge_one(weights, frame.pixels, min_snr))
    return finish(judged, frame.shape, frame.factor, min_spots)


def check_min_spots(min_spots: int) -> None:
    """Refuse a number of spots that cannot be counted to.

    Raises:
        UserError: it is less than 1 or more than 24.
    """
    if not 1 <= min_spots <= _COUNTED:
        raise UserError(f"min_spots of {min_spots} makes no sense: give 1 to {_COUNTED}")


def finish(judged: Judged, shape: tuple[int, ...], factor: float, min_spots: int) -> FrameSpots:
    """Say what a frame shows.

    Args:
        judged: of `judge`, as NumPy arrays.
        shape: of the frame, (ss, fs) or (panel, ss, fs).
        factor: by which its values were scaled.
        min_spots: visible spots from which a frame is a hit.
    """
    counts, expected, *candidates = judged
    use = candidates[2] > 0
    ss, fs, ratio, probability, signal = (part[use] for part in candidates)
    if len(shape) > 2:
        between = separator(shape)
        ss = ss - np.floor((ss + 0.5) / (shape[-2] + between)) * between
    ratios = ratio[probability >= SPOT_PROBABILITY]
    with np.errstate(over="ignore", under="ignore"):
        in_detector_units = (signal.astype(np.float64) / factor).astype(np.float32)
    return FrameSpots(
        # Rounding may lift a sum of probabilities above 1.
        min(float(counts[min_spots:].sum()), 1.0),
        min(float(counts[MANY_SPOTS:].sum()), 1.0),
        float(expected),
        float(ratios[min_spots - 1]) if len(ratios) >= min_spots else 0.0,
        ss,
        fs,
        ratio,
        probability,
        in_detector_units,
    )


@cache
def load_weights(path: Path = WEIGHTS) -> Weights:
    """Read weights; nothing is unpickled.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: jnp.asarray(stored[name], jnp.float32) for name in stored.files if name != "card"}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: the day-one model cannot be read ({error}); install sfxjax anew") from error


def model_card(path: Path = WEIGHTS) -> dict[str, Any]:
    """Return what is known of the shipped weights: how they were made, and how they did."""
    with np.load(path, allow_pickle=False) as stored:
        return dict(json.loads(str(stored["card"])))
