"""The day-one model's answers, recalibrated by a few labels: a logistic model that starts as the day-one model itself.

The log odds of a positive are a weighted sum of four answers of the day-one model and a constant. A Gaussian prior holds the
weights near those that leave its score as it is, so that no label changes nothing and ten labels change a little (maximum a
posteriori logistic regression; Bishop, Pattern Recognition and Machine Learning, 2006, section 4.5).

A frame is then a hit from a probability that is the share of hits in the run: the balanced accuracy, the mean of the shares of
hits and of misses told right, is highest where a frame is called a hit from p / P > (1 - p) / (1 - P), with P that share
(Menon, van Rooyen, Ong and Williamson, ICML 2015). From one half on fewest frames would be told wrong, but of a run with few
hits many of these would be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import atomic_write_json
from sfxjax.json_files import checked_number, read_json

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots

FILE = "recalibration.json"
KIND = "sfxjax: day-one model fitted to labels"
INPUTS = ("score", "many", "expected", "fourth")
# Weights that leave the score's log odds as they are, the constant last: inputs are divided by `_SCALE`.
_SCALE = 4.0
_INITIAL = np.array([_SCALE, 0, 0, 0, 0])
# Standard deviation of the prior: chosen on simulated runs for 5 to 20 labels, by three definitions of a hit. Twice as wide, 5
# labels did harm.
_WIDTH = np.array([1.0, 1, 1, 1, 1.5])
_BOUNDS = (("threshold", 0, 1), ("min_snr", 0, 1e6), ("min_spots", 1, 24), ("labels", 0, 1e9))
# Probabilities nearer to 0 and 1 say the same.
_LEAST = 1e-4
# Where hits are rare, a hit lost counts as at most nine false ones; where they are common, as at least one.
_THRESHOLDS = 0.1, 0.5


@dataclass(frozen=True)
class Recalibration:
    """A fitted model.

    Attributes:
        weights: of `INPUTS` as `inputs_of` gives them, and the constant.
        threshold: probability from which a frame is a hit.
        min_snr: of the day-one model's count.
        min_spots: of the day-one model's count.
        labels: how many it was fitted to.
    """

    weights: tuple[float, ...] = tuple(_INITIAL)
    threshold: float = 0.5
    min_snr: float = 6.0
    min_spots: int = 4
    labels: int = 0

    def probability(self, inputs: np.ndarray) -> np.ndarray:
        """Return the probability of a positive, (n,), of inputs (n, 4)."""
        # Imported late, here and below: processes that read import this module, and would take a second longer to start.
        from scipy.special import expit

        return expit(inputs @ np.array(self.weights[:-1]) + self.weights[-1])

    def save(self, folder: Path) -> None:
        """Write the model into a folder of labels."""
        atomic_write_json(folder / FILE, {"kind": KIND, **asdict(self)})


def inputs_of(spots: Sequence[FrameSpots]) -> np.ndarray:
    """Return what the model reads of frames, float (n, 4): log odds of the scores, logarithms of the numbers."""
    from scipy.special import logit

    values = np.array([[getattr(each, name) for name in INPUTS] for each in spots], float).reshape(-1, 4)
    odds = logit(values[:, :2].clip(_LEAST, 1 - _LEAST)) / _SCALE
    return np.concatenate([odds, np.log1p(values[:, 2:].clip(0))], 1)


def fit_recalibration(
    inputs: np.ndarray,
    positives: np.ndarray,
    run_inputs: np.ndarray,
    min_snr: float = 6.0,
    min_spots: int = 4,
) -> Recalibration:
    """Fit the model to labels, and choose its threshold for the run they are of.

    Args:
        inputs: (n, 4) of the labelled frames, of `inputs_of`; without any the model stays as it is.
        positives: bool (n,), hit or maybe.
        run_inputs: (m, 4) of all frames of the run, whose share of hits the model estimates.
        min_snr: that the frames were counted with.
        min_spots: that the frames were counted with.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    if not len(inputs):
        return Recalibration(min_snr=min_snr, min_spots=min_spots)
    # Centred where few and many spots part, so that slopes and the constant do not stand for one another.
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], 1)
    sign = np.where(positives, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (design @ weights)
        away = (weights - _INITIAL) / _WIDTH
        value = np.logaddexp(0, -margin).sum() + 0.5 * (away**2).sum()
        return value, -(sign * expit(-margin)) @ design + away / _WIDTH

    found = minimize(loss, _INITIAL, jac=True, method="L-BFGS-B").x
    model = Recalibration(tuple(map(float, found)), 0.5, min_snr, min_spots, len(inputs))
    share = float(model.probability(run_inputs).mean())
    return replace(model, threshold=min(max(share, _THRESHOLDS[0]), _THRESHOLDS[1]))


def load(folder: Path) -> Recalibration | None:
    """Read the model of a folder of labels; None where the folder is of another kind.

    Raises:
        UserError: the model is damaged.
    """
    path = folder / FILE
    try:
        content: dict[str, Any] = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(
            f"{path}: damaged ({error}); label again with the same --out, which writes it anew"
        ) from error
    try:
        if content.pop("kind") != KIND or len(content["weights"]) != len(_INITIAL):
            raise ValueError("of another kind")
        weights = tuple(checked_number(weight, "a weight", -1e6, 1e6) for weight in content["weights"])
        model = Recalibration(**{**content, "weights": weights})
        for name, least, most in _BOUNDS:
            checked_number(getattr(model, name), name, least, most)
        if not (type(model.min_spots) is type(model.labels) is int and model.min_snr > 0):
            raise ValueError("min_spots or labels is no whole number, or min_snr not above 0")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a model of labels ({error})") from error
    return model
