"""Thresholds with a promised recall, the trust test, the report and the file of hits."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import screen_cases as cases
from scipy.stats import binom

from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import NAMES, compare_domains, lattice_statistics, summarize_domains
from sfxjax.evaluation.recall import recall_bound, threshold_for_recall
from sfxjax.models.checkpoint import save_model
from sfxjax.preprocess.definition import preprocess
from sfxjax.preprocess.tiled import LATTICE_COLUMNS, LATTICE_ROWS
from sfxjax.screen.doubtful import equal_scores
from sfxjax.screen.report import rates_by_block
from sfxjax.screen.run import Run
from sfxjax.screen.scorer import Screener
from sfxjax.screen.sources import notes_of


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    made = cases.frames(30, 740)
    made[4] = 0
    return made


@jax.jit
@jax.vmap
def frame_statistics(frame: jax.Array) -> jax.Array:
    rows, columns = frame[::LATTICE_ROWS], frame[:, ::LATTICE_COLUMNS]
    return lattice_statistics(frame.max(1) - frame.min(1), rows, columns)


def make_model(folder: Path, **trained_on: object) -> Path:
    return save_model(
        folder / "m" / "model", dataclasses.replace(cases.tiny_model(), trained_on=trained_on)
    ).parent


@pytest.mark.parametrize(("found", "positives"), [(299, 299), (295, 300), (1, 10), (60, 100)])
def test_the_bound_is_the_recall_that_would_yield_so_many_once_in_twenty(found: int, positives: int) -> None:
    bound = recall_bound(found, positives)
    # Exactly 5 % of experiments with this recall find as many or more.
    assert binom.sf(found - 1, positives, bound) == pytest.approx(0.05, rel=1e-9)
    assert recall_bound(0, positives) == 0


def test_the_threshold_is_the_highest_that_keeps_the_promise() -> None:
    generator = np.random.default_rng(0)
    positives = generator.random(1200) < 0.5
    scores = np.where(positives, generator.beta(5, 2, 1200), generator.beta(2, 5, 1200)).astype(np.float32)
    for recall in (0.8, 0.95, 0.99):
        found = threshold_for_recall(scores, positives, recall)
        own = scores[positives]
        assert found.bound >= recall
        assert found.bound == recall_bound(int(np.sum(own >= found.threshold)), len(own))
        higher = own[own > found.threshold].min()
        assert recall_bound(int(np.sum(own >= higher)), len(own)) < recall
        assert found.kept == pytest.approx(np.mean(scores >= found.threshold))


def test_the_promise_is_kept_in_nineteen_of_twenty_samples() -> None:
    generator = np.random.default_rng(1)
    broken = 0
    for _ in range(1000):
        scores = generator.random(400)
        found = threshold_for_recall(scores, np.ones(400, bool), 0.9)
        # The scores are uniform: the true recall at a threshold is what lies above it.
        broken += 1 - found.threshold < 0.9
    # 50 expected at most; 1 in 10,000 samples of a fair binomial exceeds 77.
    assert 15 < broken < 78


def test_too_few_positives_promise_nothing() -> None:
    scores = np.linspace(0, 1, 298)
    with pytest.raises(UserError, match=r"299 are needed.*--recall 0.990 can"):
        threshold_for_recall(scores, np.ones(298, bool), 0.99)
    assert threshold_for_recall(np.linspace(0, 1, 299), np.ones(299, bool), 0.99).threshold == 0
    for wrong in (0.0, 1.0, 99.0):
        with pytest.raises(UserError, match="between 0 and 1"):
            threshold_for_recall(scores, np.ones(298, bool), wrong)


def test_the_command_sets_the_threshold_by_the_models_validation_frames(
    tmp_path: Path, data: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cases.write_cxi(tmp_path / "a.cxi", data[:4])
    score = Screener(cases.tiny_model()).scores(data[:4])
    middle = float(np.sort(score)[1])
    validation = {"scores": [middle] * 60 + [0.0] * 40, "positives": [True] * 60 + [False] * 40}
    model = make_model(tmp_path, validation=validation)
    arguments = [run, "--model", model, "--no-report", "--out", tmp_path / "o"]
    assert cases.screen(*arguments, "--recall", "0.95") == 0
    assert [row["label"] for row in cases.rows(tmp_path / "o")] == [
        "HIT" if s >= middle else "MISS" for s in score
    ]
    told = capsys.readouterr().out
    assert "keeping 60.0 % of the validation frames" in told
    assert f"{0.05 ** (1 / 60):.4f}" in told
    with pytest.raises(UserError, match="299 are needed"):
        cases.screen(*arguments, "--recall", "0.99")
    with pytest.raises(UserError, match="no labelled validation frames"):
        cases.screen(run, "--model", make_model(tmp_path / "n"), "--out", tmp_path / "o", "--recall", "0.9")


def test_statistics_are_those_of_numpy() -> None:
    frames = np.array(preprocess(cases.frames(2, 724)))
    frames[1, 100:200, :] = 0
    found = dict(zip(NAMES, np.asarray(frame_statistics(jnp.asarray(frames)))[1], strict=True))
    frame = frames[1].astype(np.float64)
    sample = np.abs(frame[::12, ::12])
    sample = np.sort(sample[sample > 0])
    median = sample[(len(sample) - 1) // 2]
    assert found["median_magnitude"] == pytest.approx(median, rel=1e-5)
    upper = sample[int(0.75 * (len(sample) - 1))]
    assert found["upper_quartile_to_median"] == pytest.approx(upper / median, rel=1e-5)
    extent = np.ptp(frame, axis=1)
    extent = np.sort(extent[extent > 0])
    decile = extent[int(0.1 * (len(extent) - 1))]
    assert found["row_extent_to_median"] == pytest.approx(decile / median, rel=1e-5)
    clipped = np.clip(frame, -3 * median, 3 * median)
    first, second = clipped[::12, :-1].ravel(), clipped[::12, 1:].ravel()
    both = (first != 0) & (second != 0)
    expected = 2 * np.sum((first * second)[both]) / np.sum((first**2 + second**2)[both])
    assert found["correlation_fast"] == pytest.approx(expected, rel=1e-4)


def test_statistics_do_not_know_hits_from_misses_but_know_another_detector() -> None:
    generator = np.random.default_rng(2)
    noise = generator.normal(500, 12, (24, 724, 724))
    spots = noise.copy()
    for frame in spots:
        places = generator.integers(0, 724, (generator.integers(5, 200), 2))
        frame[places[:, 0], places[:, 1]] += 3000
    blurred = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) / 3

    def statistics(frames: np.ndarray) -> np.ndarray:
        return np.asarray(frame_statistics(preprocess(frames.astype(np.float32))))

    # Trained on both kinds; then runs of one kind alone.
    both = np.concatenate([noise[:12], spots[:12]])
    trained = json.loads(json.dumps(summarize_domains(statistics(both))))
    assert compare_domains(statistics(spots[12:]), trained) == []
    assert compare_domains(statistics(noise[12:]), trained) == []
    lines = compare_domains(statistics(blurred), trained)
    assert any(line.startswith("correlation fast") for line in lines)
    assert compare_domains(np.full((5, len(NAMES)), np.nan), trained) == []


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[bytes] = []
        self.others: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for key, value in attributes:
            if key in ("src", "href") and value is not None:
                if value.startswith("data:image/png;base64,"):
                    self.images.append(base64.b64decode(value.partition(",")[2]))
                else:
                    self.others.append(value)


def test_the_report_stands_alone_and_warns(tmp_path: Path, data: np.ndarray) -> None:
    run = cases.write_cxi(tmp_path / "<b>&.cxi", data)
    strange = summarize_domains(np.random.default_rng(0).normal(100, 1, (50, len(NAMES))))
    model = make_model(tmp_path, frame_statistics=strange)
    threshold = float(np.nanmedian(Screener(cases.tiny_model()).scores(data)))
    assert cases.screen(run, "--model", model, "--out", tmp_path / "o", "--threshold", threshold) == 1
    text = (tmp_path / "o" / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.others == []
    # Two plots, two mean images, six strongest, six doubtful.
    assert len(page.images) == 16
    assert all(image.startswith(b"\x89PNG") for image in page.images)
    assert "<b>&" not in text
    assert "do not look like those the model was trained on" in text
    assert "all pixels are 0" in text
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["frames"], summary["errors"]) == (30, 1)
    assert sum(block["hits"] for block in summary["hit_rate_over_the_run"]) == summary["hits"]
    with h5py.File(tmp_path / "o" / "class_means.h5") as file:
        hits = [int(row["index"]) for row in cases.rows(tmp_path / "o") if row["label"] == "HIT"]
        assert file["HIT/frames"][()] == len(hits)
        np.testing.assert_allclose(file["HIT/mean"][()], data[hits, 8:732, 8:732].mean(0), rtol=1e-6)
    assert re.search(r"frame \d+, &lt;b&gt;", text)


def test_the_hit_rate_is_that_of_the_blocks() -> None:
    labels = np.array(["HIT"] * 5 + ["MISS"] * 5 + ["ERROR"] * 10 + ["MISS"] * 3)
    rates = rates_by_block(labels, blocks=2)
    assert [(block["first"], block["last"]) for block in rates] == [(0, 11), (12, 22)]
    assert [block["rate"] for block in rates] == [0.5, 0.0]
    assert rates_by_block(np.array(["ERROR"]))[0]["rate"] is None


def test_the_hits_are_written_as_they_were_with_what_is_known_of_them(
    tmp_path: Path, data: np.ndarray
) -> None:
    files = []
    for number, part in enumerate((data[:3].astype(np.int32), data[5:9].astype(np.int32))):
        files.append(tmp_path / f"r{number}.cxi")
        with h5py.File(files[-1], "w") as file:
            detector = file.create_group("/entry_1/instrument_1/detector_1")
            detector["data"], detector["distance"] = part, 0.124
            file["/entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
            energies = np.arange(len(part)) + 10.0 * number
            file["/LCLS/photon_energy_eV"] = energies
            file["/LCLS/photon_energy_eV"].attrs["units"] = "eV"
            file["/LCLS/stamp"] = np.array([f"t{e}" for e in energies], h5py.string_dtype())
            file["/elsewhere"] = h5py.ExternalLink("../other.h5", "/x")
    whole = np.concatenate([data[:3], data[5:9]])
    scores = Screener(cases.tiny_model()).scores(whole)
    # Each file has a hit.
    threshold = float(min(scores[:3].max(), scores[3:].max()))
    arguments = [*files, "--model", make_model(tmp_path), "--out", tmp_path / "o", "--no-report"]
    assert cases.screen(*arguments, "--threshold", threshold, "--write-hits") == 0
    hits = [int(row["index"]) for row in cases.rows(tmp_path / "o") if row["label"] == "HIT"]
    assert any(hit < 3 for hit in hits)
    assert any(hit >= 3 for hit in hits) and len(hits) < len(whole)
    with h5py.File(tmp_path / "o" / "hits.cxi") as file:
        written = file["/entry_1/data_1/data"]
        assert written.dtype == np.int32
        np.testing.assert_array_equal(written[()], whole[hits])
        energies = np.array([0.0, 1, 2, 10, 11, 12, 13])
        np.testing.assert_array_equal(file["/LCLS/photon_energy_eV"][()], energies[hits])
        assert file["/LCLS/photon_energy_eV"].attrs["units"] == "eV"
        assert [stamp.decode() for stamp in file["/LCLS/stamp"][()]] == [f"t{e}" for e in energies[hits]]
        assert file["/entry_1/instrument_1/detector_1/distance"][()] == 0.124
        np.testing.assert_array_equal(file["/entry_1/screening/index"][()], hits)
        assert "elsewhere" not in file
    # The file of hits is itself one that can be screened.
    again = [
        tmp_path / "o" / "hits.cxi",
        "--model",
        make_model(tmp_path),
        "--out",
        tmp_path / "p",
        "--no-report",
    ]
    assert cases.screen(*again, "--threshold", threshold) == 0
    np.testing.assert_array_equal(cases.scores(tmp_path / "p"), cases.scores(tmp_path / "o")[hits])


def test_equal_scores_of_all_frames_are_warned_of() -> None:
    (line,) = equal_scores(np.array([0.25, np.nan, 0.25, 0.25, 0.25], np.float32))
    assert line.startswith("all 4 frames have the same score, 0.25")
    assert equal_scores(np.array([0.25, 0.25, 0.25, 0.26], np.float32)) == []
    assert equal_scores(np.array([0.25, 0.25], np.float32)) == []


def test_terminal_report_and_summary_name_masks_values_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_model(tmp_path / "tiny" / "model", cases.tiny_model()).parent
    frames = cases.frames(3, 724, "uint32")
    frames[:, 300:320] = 65535
    (tmp_path / "run").mkdir()
    with h5py.File(tmp_path / "run" / "x_master.h5", "w") as file:
        file["/entry/data/data"] = frames
        mask = np.zeros((724, 724), np.uint32)
        mask[10:20, 10:30] = 1
        file["/entry/instrument/ELE_D0/pixel_mask"] = mask
    (tmp_path / "run" / "y.img").touch()
    assert cases.screen(tmp_path / "run", "--model", model, "--out", tmp_path / "o", "--readers", "1") == 0
    said = capsys.readouterr().out
    report = (tmp_path / "o" / "report.html").read_text()
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    for words in (
        "mask /entry/instrument/ELE_D0/pixel_mask in the frames' file (0 is good): 200 of 524,176 pixels",
        "in 3 frames pixels of 65534 and more were left out",
        "left out files of formats that are not read: 1 .img",
    ):
        assert words in said and words in report.replace("&#39;", "'") and words in json.dumps(summary)


def test_a_file_that_cannot_be_read_is_named_once_in_its_line() -> None:
    failed = {
        "./a.tif": "a.tif: install fabio to read it",
        "b.h5": "holds no frames",
        "c\x1b.h5": "c\\x1b.h5: cut",
    }
    assert notes_of(Run(), failed) == [
        "./a.tif cannot be screened: install fabio to read it",
        "b.h5 cannot be screened: holds no frames",
        "c\x1b.h5 cannot be screened: cut",
    ]
