"""What a run trains on and is judged on."""

from __future__ import annotations

import numpy as np
import pytest

from sfxjax.models.stem import BaseConfig
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.data import PreparedSet, base_for
from sfxjax.training.run import training_data

FRAMES = 40


def prepared(name: str, reduction: str | None, shape: tuple[int, ...]) -> PreparedSet:
    """A set of random maps or vectors."""
    rng = np.random.default_rng(list(name.encode()))
    masked, bare = (rng.normal(size=(FRAMES, *shape)).astype(np.float32) for _ in range(2))
    labels = np.arange(FRAMES, dtype=np.int8) % 3
    return PreparedSet(
        name, True, labels, np.zeros((FRAMES, 6), np.float32), {reduction: masked}, {reduction: bare}
    )


@pytest.mark.parametrize(
    ("reduction", "shape", "ends"),
    [("row_wise_decomposition", (9, 1), 2), ("soft_spot_counts", (9, 1), 1), (None, (6, 6, 2), 1)],
)
def test_heights_are_trained_on_from_both_ends_and_judged_as_they_are(
    reduction: str | None, shape: tuple[int, ...], ends: int
) -> None:
    sets = {name: prepared(name, reduction, shape) for name in ("LN83", "LO19")}
    recipe = TrainingConfig(base=base_for(reduction))
    training, validation = training_data(RunConfig("dann", "LN83", "LO19", None, reduction, recipe), sets)
    # The first 24 of 40 frames train, the next 8 validate; every second one is seen without its mask.
    for found, each in ((training.source, sets["LN83"]), (training.target, sets["LO19"])):
        once = np.where(
            (np.arange(24) % 2 == 1).reshape(-1, *[1] * len(shape)),
            each.bare[reduction][:24],
            each.masked[reduction][:24],
        )
        np.testing.assert_array_equal(found, np.concatenate([once, once[:, ::-1]][:ends]))
    np.testing.assert_array_equal(training.positive, np.tile(np.arange(24) % 3 > 0, ends))
    assert len(validation.source) == len(validation.positive) == len(validation.target) == 8


def test_vectors_prepared_otherwise_are_refused() -> None:
    sets = {"LN83": prepared("LN83", "row_wise_decomposition", (9, 1))}
    as_they_are = TrainingConfig(base=BaseConfig(dimensions=1, noise_normalised=False))
    plan = RunConfig("reduced", "LN83", None, None, "row_wise_decomposition", as_they_are)
    with pytest.raises(ValueError, match="prepare it for that"):
        training_data(plan, sets)
