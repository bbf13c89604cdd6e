"""The day-one model as `sfxjax label` fitted it to labels, or `train.adapt` to a run, ready to judge by."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfxjax.command_line import refuse_unused
from sfxjax.errors import UserError
from sfxjax.screen.made_by import file_digest
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.spots.fixed_pattern import PATTERN_FILE, FixedPattern, load_pattern
from sfxjax.spots.recalibration import Recalibration, inputs_of, load
from sfxjax.text import counted, printable

if TYPE_CHECKING:
    from sfxjax.spots.day_one import FrameSpots


DAY_ONE_MODEL = "the day-one model"
AS_IT_IS = f"{DAY_ONE_MODEL} as it is"


@dataclass(frozen=True)
class FittedModel:
    """A model.

    Attributes:
        recalibration: of the scores.
        pattern: taken out of every frame; None: nothing is.
        digest: of what the pattern was read from; None where there is none.
        folder: that the model was read from.
    """

    recalibration: Recalibration
    pattern: FixedPattern | None
    digest: str | None
    folder: str

    def line(self) -> str:
        """Say what it is, and where it was read from."""
        model = self.recalibration
        changes = [] if self.pattern is None else ["adapted to a run's frames"]
        changes += [f"fitted to {counted(model.labels, 'labels')}"] if model.labels else []
        what = AS_IT_IS if not changes else f"{DAY_ONE_MODEL}, {', '.join(changes)}"
        return f"{what}; threshold {model.threshold:.3f}; read from {printable(self.folder)}"

    def decided_by(self) -> dict[str, Any]:
        """Return what decides which frame is a hit, as JSON gives it back."""
        return {
            "threshold": self.recalibration.threshold,
            "model of labels": list(self.recalibration.weights),
        }

    def settings(self) -> dict[str, Any]:
        """Return all that decides the results of a stream, as JSON gives it back."""
        return {"adaptation": self.digest, **self.decided_by()}

    def scored(self, spots: FrameSpots) -> FrameSpots:
        """Return what a frame shows with the score that this model gives it."""
        return spots._replace(score=float(self.recalibration.probability(inputs_of([spots]))[0]))


def load_fitted(folder: str | Path) -> FittedModel:
    """Read a model.

    Raises:
        UserError: the folder holds none, or it is damaged.
    """
    found = load(Path(folder))
    if found is None:
        raise UserError(
            f"{folder} holds no model of `sfxjax label` or of `sfxjax train adapt --model day-one`"
        )
    pattern = load_pattern(Path(folder))
    digest = None if pattern is None else file_digest(Path(folder) / PATTERN_FILE)
    return FittedModel(found, pattern, digest, str(folder))


def model_line(fitted: FittedModel | None) -> str:
    """Say what counts the spots; None: the day-one model as it comes with the package."""
    return AS_IT_IS if fitted is None else fitted.line()


def visible_spots(
    min_snr: float | None, min_spots: int | None, fitted: FittedModel | None
) -> tuple[float, int]:
    """Return the signal-to-noise a spot is visible from, and the visible spots a frame is a hit from.

    Args:
        min_snr: as it was given; None: the package's own, or that of the fitted model.
        min_spots: likewise.
        fitted: model that was fitted with numbers of its own; None: none was.

    Raises:
        UserError: one was given that the fitted model has itself.
    """
    if fitted is not None:
        given = argparse.Namespace(min_snr=min_snr, min_spots=min_spots)
        refuse_unused(given, vars(given), "with the model of a labelling, whose own hold")
        return fitted.recalibration.min_snr, fitted.recalibration.min_spots
    return MIN_SNR if min_snr is None else min_snr, MIN_SPOTS if min_spots is None else min_spots
