"""The experiments beside the paper's tables: their figures by hand, and what the report makes of their records."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.day_one.measure import MATRIX
from bench.day_one.runs import run_set
from bench.experiments import adaptation, ensemble, gan, particles
from bench.experiments.batch_statistics import with_batch_statistics_of
from bench.paper import claims
from bench.paper.claim_figures import records
from bench.paper.claims import FAILS, HOLDS, NOT_TESTED, Finding
from bench.paper.methods import METHODS, means_of_methods
from bench.paper.table_layout import NOT_RUN
from sfxjax.data.sets import FrameSet
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.simulate.conditions import Condition, draw_run
from sfxjax.simulate.particles import Kind
from sfxjax.training.scores import write_scores


def rates(percent: float) -> dict[str, Any]:
    return {"balanced_accuracy": {"percent": percent}}


# The ensemble


def test_a_vote_is_judged_by_its_mean_and_its_members_disagreement() -> None:
    truth = np.array([True, True, False, False])
    scores = {"one": np.array([0.9, 0.2, 0.1, 0.4]), "two": np.array([0.8, 0.6, 0.3, 0.2])}
    one, two, vote = ensemble.judge_voters(scores, truth)
    assert (one["network"], two["network"], vote["network"]) == ("one", "two", ensemble.VOTE)
    # The means are 0.85, 0.4, 0.2 and 0.3: the second positive alone is missed, where the two differ most.
    assert (one["recall"]["percent"], two["recall"]["percent"], vote["recall"]["percent"]) == (50, 100, 50)
    assert vote["disagreement"] == 1.0
    assert vote["own_doubt"] == 1.0
    assert two["own_doubt"] is None, "it is never wrong"
    # In bins of a tenth: |0.85 - 1|, |0.4 - 1|, |0.2 - 0| and |0.3 - 0|.
    assert vote["calibration_error"] == pytest.approx(100 * (0.15 + 0.6 + 0.2 + 0.3) / 4)
    assert "disagreement" not in one


def test_an_area_needs_both_right_and_wrong_frames() -> None:
    doubt = np.array([0.1, 0.9, 0.5])
    assert ensemble.area_for_errors(doubt, np.array([False, True, False])) == 1
    assert ensemble.area_for_errors(doubt, np.array([True, False, True])) == 0
    assert ensemble.area_for_errors(doubt, np.zeros(3, bool)) is None


# Single particles


def test_rejected_shots_are_counted_by_kind_on_the_last_fifth(tmp_path: Path) -> None:
    kinds = np.array([Kind.NONE] * 8 + [Kind.NONE, Kind.MULTIPLE] * 6).astype(np.int8)
    scores = np.full(20, 0.9, np.float32)
    scores[[16, 17]] = 0.1
    write_scores(tmp_path / "scores.h5", {"SPHERES": scores}, {"SPHERES": np.zeros(20, np.int8)})
    found = particles.rejected(tmp_path, "SPHERES", kinds, 0.5)
    assert found == {"none": 50, "multiple": 50}
    assert particles.rejected(tmp_path, "SPHERES", kinds, 0.95) == {"none": 100, "multiple": 100}


# The GAN


def test_a_picture_holds_the_maxima_of_its_blocks_and_no_masked_pixel() -> None:
    frame = np.zeros((720, 720), np.float32)
    edge = (720 - gan.MAP_SIDE * gan.MAP_BLOCK) // 2
    frame[edge + 2 * gan.MAP_BLOCK, edge + 3 * gan.MAP_BLOCK + 1] = 5
    frame[edge + 7 * gan.MAP_BLOCK, edge] = 9
    valid = np.ones(frame.shape, bool)
    valid[edge + 7 * gan.MAP_BLOCK, edge] = False
    picture = np.asarray(gan.spot_picture(jnp.asarray(frame), jnp.asarray(valid))).reshape(
        gan.MAP_SIDE, gan.MAP_SIDE
    )
    expected = np.zeros((gan.MAP_SIDE, gan.MAP_SIDE))
    expected[2, 3] = 5
    np.testing.assert_array_equal(picture, expected)
    scaled = gan.scale_pictures(np.random.default_rng(0).lognormal(size=(5, gan.MAP_SIDE**2)))
    assert scaled.shape == (5, gan.MAP_SIDE, gan.MAP_SIDE, 1) and abs(scaled).max() <= 1
    assert abs(scaled.mean()) < 0.02 and scaled.std() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.slow
def test_a_step_trains_each_network_against_the_other() -> None:
    begun = gan.untrained(0)
    pictures = jnp.asarray(
        np.random.default_rng(1).uniform(-1, 1, (8, gan.MAP_SIDE, gan.MAP_SIDE, 1)), jnp.float32
    )
    state = begun
    for number in range(3):
        state = gan._gan_step(state, pictures, jax.random.key(number))
    for old, new in ((begun.discriminator, state.discriminator), (begun.generator, state.generator)):
        moved = jax.tree.map(
            lambda a, b: bool(jnp.any(a != b)) and bool(jnp.all(jnp.isfinite(b))), old[0], new[0]
        )
        # A bias before a batch normalisation has no effect, so no gradient.
        assert sum(jax.tree.leaves(moved)) > len(jax.tree.leaves(moved)) / 2
    made, _ = gan._make(*state.generator, jnp.zeros((2, gan.LATENT)))
    assert made.shape == (2, gan.MAP_SIDE, gan.MAP_SIDE, 1) and abs(np.asarray(made)).max() <= 1
    features = gan.read_features(state.discriminator, np.asarray(pictures))
    assert features.shape == (8, 16 * sum(gan.CHANNELS))


def test_a_regression_is_fitted_to_the_first_labels_alone() -> None:
    rng = np.random.default_rng(3)
    positives = rng.random(60) < 0.5
    features = rng.normal(size=(60, 4)) + 3 * positives[:, None]
    scores = gan.fitted_scores(features, positives, 20, slice(40, None))
    assert np.mean((scores > 0.5) == positives[40:]) > 0.9
    positives[20:40] = ~positives[20:40]
    np.testing.assert_array_equal(gan.fitted_scores(features, positives, 20, slice(40, None)), scores)


# What the report makes of them


def judged(*names: str, stored: Path = Path("nowhere"), **parts: Any) -> list[Finding]:
    """These claims, judged by parts of a comparison's record and by records in a folder."""
    return [claims.judged(name, records(parts, stored)) for name in names]


def test_what_was_not_measured_is_not_tested(tmp_path: Path) -> None:
    found = judged(
        *claims.CLAIMS,
        stored=tmp_path,
        layout=[{"key": "recalls", "rows": [[METHODS["reduced"].title, NOT_RUN]]}],
        shown=None,
        table6=None,
        means=means_of_methods([]),
    )
    assert {finding.verdict for finding in found} == {NOT_TESTED}
    assert {finding.ours for finding in found} == {""}


def stored(folder: Path, **made: Any) -> list[str]:
    """Verdicts of GAN, ensemble, particles, RWD on particles and online screening, of these records."""
    for name, record in made.items():
        (folder / f"{name}.json").write_text(json.dumps(record))
    outlook = ("gan", "ensemble", "particles", "rwd_on_particles", "online")
    return [finding.verdict for finding in judged(*outlook, stored=folder)]


@pytest.mark.parametrize(("vote", "verdict"), [(97.0, HOLDS), (95.0, FAILS)])
def test_an_ensemble_helps_where_it_beats_its_best_member(vote: float, verdict: str, tmp_path: Path) -> None:
    about = {"set": "LN83", "seed": 0, "calibration_error": 2.0, "own_doubt": 0.9, "disagreement": 0.8}
    members = [("a", 94.0), ("b", 96.0), (ensemble.VOTE, vote)]
    cells = [{"network": name, **rates(percent), **about} for name, percent in members]
    assert stored(tmp_path, ensemble={"cells": cells})[1] == verdict


def test_single_particles_are_found_from_ninety_per_cent_on(tmp_path: Path) -> None:
    def cells(rows: float, frames: float) -> dict[str, Any]:
        each = {"labels": 200, "rejected": {"none": 99.0, "multiple": 80.0}}
        found = [("RWD and 1D CNN", rows), ("plain 2D CNN", frames)]
        return {"cells": [{"network": name, **each, **rates(percent)} for name, percent in found]}

    assert stored(tmp_path, particles=cells(80, 91))[2:4] == [HOLDS, HOLDS]
    assert stored(tmp_path, particles=cells(89, 80))[2:4] == [FAILS, FAILS]


def test_a_gan_helps_where_it_is_a_point_and_the_seeds_spread_above_random_weights(tmp_path: Path) -> None:
    def cells(few: float, spread: float = 0.0) -> dict[str, Any]:
        kinds = {"gan": few, "none": 80.0, "source": 90.0}
        every = [(k, v + by, n) for k, v in kinds.items() for n in (25, 200) for by in (-spread, spread)]
        return {
            "steps": 1,
            "side": 64,
            "cells": [{"pretraining": k, "labels": n, **rates(v)} for k, v, n in every],
        }

    assert stored(tmp_path, gan=cells(81.5))[0] == HOLDS
    assert stored(tmp_path, gan=cells(80.5))[0] == FAILS
    # Two seeds that lie half a point to either side deviate by 0.71 each.
    assert stored(tmp_path, gan=cells(81.5, 0.5))[0] == HOLDS
    assert stored(tmp_path, gan=cells(81.5, 0.6))[0] == FAILS


def test_features_are_alike_where_every_class_is_told_apart_less() -> None:
    def verdicts(after: float, swing: float) -> list[str]:
        apart = {
            "source-only CNN": {"miss": 90.0, "maybe": 80.0, "hit": 85.0},
            "DANN": {"miss": after, "maybe": 79.0, "hit": 60.0},
        }
        late = {"label": [90.0, 95.0], "domain": [50.0, 50.0 + swing]}
        shown = {"told_apart": apart, "late_accuracy": late}
        found = judged("overlap", "maybes", "curves", shown=shown)
        assert all(finding.ours for finding in found)
        return [finding.verdict for finding in found]

    assert verdicts(70, 20) == [HOLDS, HOLDS, HOLDS]
    assert verdicts(91, 9) == [FAILS, FAILS, FAILS]


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (76.0, "the reversal adds nothing"),
        (90.0, "the reversal brings the features nearer"),
        (60.0, "further apart"),
    ],
)
def test_what_aligns_is_judged_against_the_same_training_without_the_reversal(
    without: float, said: str
) -> None:
    cells = [
        {"network": name, "told_apart": {"miss": value + by, "maybe": value - by, "hit": value + seed}}
        for seed in (0, 6)
        for name, value, by in (
            ("source-only CNN", 86.0, 4),
            ("DANN", 75.0, 2),
            ("DANN, strength 0", without, 3),
        )
    ]
    shown = {
        "told_apart": {
            name: {"miss": 80.0, "maybe": 80.0, "hit": 80.0} for name in ("source-only CNN", "DANN")
        }
    }
    (overlap,) = judged("overlap", shown=shown, alignment={"cells": cells})
    reason = overlap.reason
    # Means of the classes: of seed 0 those values, of seed 6 two more.
    assert (
        f"DANN 76.0 %, the same without the reversal (strength 0) {without + 1:.1f} %" in reason
        and said in reason
    )


# What adaptation is worth


def test_batch_statistics_of_other_frames_are_their_own_moments() -> None:
    config = BaseConfig(dimensions=1, spot=1, channels=(4, 6))
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(1, 64, 2)).astype(np.float32)
    variables = HitClassifier(config).init(jax.random.key(1), maps)
    before = TrainedModel(config, {**variables})
    # Every batch is this one frame again and again, so that the statistics do not depend on the draw.
    after = with_batch_statistics_of(before, 3 * maps.repeat(8, 0) + 1, seed=0)
    frame = np.pad(3.0 * maps[0].astype(np.float64) + 1, ((1, 1), (0, 0)))
    kernel = np.asarray(variables["params"]["base"]["convolution_0"]["kernel"], np.float64)
    convolved = sum(frame[place : place + 64] @ kernel[place] for place in range(3))
    found = after.variables["batch_stats"]["base"]["normalization_0"]
    # A hundred steps that keep 95 % of what was there leave 0.6 % of the untouched statistics.
    np.testing.assert_allclose(found["mean"], convolved.mean(0), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(found["var"], convolved.var(0), rtol=0.02, atol=0.02)
    np.testing.assert_array_equal(
        after.variables["params"]["base"]["convolution_0"]["kernel"],
        before.variables["params"]["base"]["convolution_0"]["kernel"],
    )


def test_what_adaptation_is_worth_is_a_mean_over_targets_for_each_seed() -> None:
    def cell(method: str, source: str | None, target: str, seed: int, percent: float) -> dict[str, Any]:
        return {"method": method, "source": source, "target": target, "seed": seed, "tested": rates(percent)}

    carried, day_one = adaptation.CARRIED, adaptation.DAY_ONE_ROW
    cells = [
        cell(carried, "LN83", "LO19", 0, 80),
        cell(carried, "LN83", "LN84", 0, 90),
        cell(carried, "LN83", "LO19", 1, 86),
        cell(carried, "LN83", "LN84", 1, 88),
        cell(carried, "LN83", "dark", 0, 50),
        cell(day_one, None, "LO19", 0, 84),
        cell(day_one, None, "LN84", 0, 84),
        cell(day_one, "LN83", "dark", 0, 95),
    ]
    text = adaptation.page(cells, 2000, 2)
    # The seeds' means are 85 and 87; the pairs', 83 and 89.
    assert f"| {carried} | 86.0 ± 1.4 | 83.0 | 50.0 | 50.0 |" in text
    assert f"| {adaptation.DANN_ROW} | - | - | - | - |" in text
    assert text.startswith(
        f"Best without a label of the new run: on the pairs of simulated sets {carried} (86.0), "
        f"on the conditions {day_one} (95.0)."
    )


def test_the_committed_page_and_the_readme_are_what_the_record_gives() -> None:
    root = Path(__file__).resolve().parents[1]
    record = json.loads((root / "bench/results/adaptation.json").read_text())
    text = adaptation.page(record["cells"], record["frames"], record["seeds"])
    assert (root / "bench/results/adaptation.md").read_text() == text + "\n"
    start, end = "<!-- adaptation: python -m bench.experiments.adaptation -->\n", "<!-- end of adaptation -->"
    shown = (root / "README.md").read_text().partition(start)[2].partition(end)[0]
    assert shown.strip() and shown.strip() in text


def test_a_run_of_clear_frames_leaves_out_what_is_near_the_threshold_of_sight(tmp_path: Path) -> None:
    described = run_set("small", "frames of 150 x 200", 5, 12, tmp_path / "run", clear=True)
    drawn = islice(draw_run(5, Condition(**MATRIX["frames of 150 x 200"])), 60)
    with FrameSet(described) as frame_set:
        labels = frame_set.labels
        stored = [frame_set.original(number)[0] for number in range(len(frame_set))]
    expected = []
    for frame in drawn:
        strongest = np.sort(frame.signal_to_noise)[::-1]
        fourth = strongest[3] if len(strongest) > 3 else 0
        if fourth < 6 / 1.25 or fourth >= 6 * 1.25:
            expected.append((frame.values, fourth >= 6))
    assert len(expected) > 12 and len(expected) < 60, "some are clear, some are not"
    for pixels, label, (values, positive) in zip(stored, labels, expected, strict=False):
        np.testing.assert_array_equal(pixels, values)
        assert (label > 0) == positive


def test_areas_tell_a_threshold_that_moves_from_an_order_that_is_lost(tmp_path: Path) -> None:
    def cells(row: str, *areas: float) -> list[dict[str, Any]]:
        return [{"row": row, "seed": seed, "area_under_curve": area} for seed, area in enumerate(areas)]

    finding = {"ours": "1", "ours_balanced": "2", "paper": "3", "paper_balanced": "4", "verdict": HOLDS}
    found = cells("many", 0.96, 0.98) + cells("source_only", 0.94, 0.95) + cells("dann", 0.7, 0.9)
    found += cells("statistics", 0.93, 0.95)
    record = {"binning": 4, "findings": [finding] * 4, "cells": found}
    (tmp_path / "plain.json").write_text(json.dumps(record))
    plain = judged("plain_few", "plain_transfer", "plain_loss", "plain_dann", stored=tmp_path)
    reasons = [each.reason for each in plain]
    assert reasons[2].endswith(
        "Area under ROC, whatever the threshold: own set 0.970, the other set 0.945, with that set's batch statistics 0.940."
    )
    assert reasons[3].endswith("Area under ROC, whatever the threshold: before 0.945, after DANN 0.800.")
    assert all(reason.startswith("2 seeds, frames binned 4x4. ") for reason in reasons)
    assert "Area" not in reasons[0] + reasons[1]
