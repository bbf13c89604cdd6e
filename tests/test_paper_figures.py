"""The paper's figures: what is drawn, what their titles say, and the numbers under the embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from paper_cases import classes, every_run, make_run
from PIL import Image

from bench.paper import drawing as paper_drawing
from bench.paper import feature_figures, frame_figures, method_figures
from bench.paper.feature_figures import draw_features, told_apart
from bench.paper.frame_figures import (
    Example,
    choose_examples,
    draw_crop,
    draw_examples,
    draw_normalisation,
    draw_vectors,
    whole_frame,
)
from bench.paper.method_figures import (
    draw_overview,
    draw_precision_recall,
    precision_curve,
    published_precision,
)
from bench.paper.methods import METHODS, mean_of
from bench.paper.plans import AS_PUBLISHED, FEWER
from bench.paper.record import record_of
from sfxjax.crop import CROP
from sfxjax.data.labels import HIT, LABEL_WORDS, MAYBE, MISS
from sfxjax.data.sets import open_set
from sfxjax.data.write import SetMetadata, SetWriter
from sfxjax.errors import UserError
from sfxjax.preprocess.definition import preprocess
from sfxjax.simulate.write import simulate_set
from sfxjax.spots.classical import count_spots
from sfxjax.training.published import SETS, TABLE_1

SIMULATED = "simulated set"


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """Noise with 50 planted spots."""
    rng = np.random.default_rng(0)
    frame = rng.poisson(400, (CROP, CROP)).astype(np.float32)
    ss, fs = np.mgrid[-2:3, -2:3]
    for place in rng.permutation([(y, x) for y in range(30, 700, 40) for x in range(30, 700, 40)])[:50]:
        frame[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3] += 400 * np.exp(
            -(ss**2 + fs**2) / 1.5
        )
    return frame


@pytest.fixture
def drawn(monkeypatch) -> list:
    """The figures that were saved; they are written too."""
    figures: list = []
    save = paper_drawing.save

    def keep(figure, title, path) -> None:
        figures.append(figure)
        save(figure, title, path)

    for module in (frame_figures, feature_figures, method_figures):
        monkeypatch.setattr(module, "save", keep)
    return figures


def check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10
    assert [other.name for other in path.parent.iterdir()] == [path.name], "nothing temporary is left"


@pytest.mark.slow
def test_examples_are_drawn_with_their_spots_marked(crop, drawn, tmp_path: Path) -> None:
    quiet = np.random.default_rng(1).poisson(400, (CROP, CROP)).astype(np.int16)
    good = np.ones((CROP, CROP), bool)
    good[300:420, 300:420] = False
    examples = [
        Example("simulated set LN84", 12, HIT, crop, good),
        Example("simulated set LN84", 5, MISS, quiet, good),
    ]
    draw_examples(examples, tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert f"{SIMULATED} LN84" in figure.get_suptitle()
    hit, miss, flat_hit, flat_miss = figure.axes
    assert (hit.get_title(), miss.get_title()) == ("HIT: frame 12", "MISS: frame 5")
    number = int(count_spots(crop, good))
    assert number > 30
    assert flat_hit.get_title() == f"{number} spots counted, the 30 strongest marked"
    boxes = [patch for patch in flat_hit.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == 30
    middles = np.array([np.add(box.get_xy(), 8) for box in boxes]).round().astype(int)
    assert all((crop[y - 1 : y + 2, x - 1 : x + 2] > 600).any() for x, y in middles)
    assert flat_miss.get_title() == "0 spots counted"
    assert not flat_miss.patches


def test_crop_is_drawn_where_it_is_cut(drawn, tmp_path: Path) -> None:
    frame = np.random.default_rng(0).poisson(50, (1000, 1100)).astype(np.int32)
    example = Example("LN83", 7, HIT, frame, np.ones(frame.shape, bool))
    draw_crop(example, frame, None, tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert SIMULATED not in figure.get_suptitle()
    assert "LN83, frame 7" in figure.get_suptitle()
    (square,) = figure.axes[0].patches
    assert (square.get_xy(), square.get_width(), square.get_height()) == ((188, 138), CROP, CROP)


@pytest.mark.slow
def test_normalisation_shows_what_the_networks_read(crop, drawn, tmp_path: Path) -> None:
    good = np.ones((CROP, CROP), bool)
    good[340:380, 340:380] = False
    draw_normalisation(Example("simulated set LO19", 3, HIT, crop, good), tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert f"{SIMULATED} LO19, frame 3" in figure.get_suptitle()
    panels = {
        axis.get_title(): np.ma.filled(axis.images[0].get_array(), np.nan)
        for axis in figure.axes
        if axis.images
    }
    expected = np.where(good[2:-2, 2:-2], np.asarray(preprocess(crop, good)), np.nan)
    np.testing.assert_allclose(panels["GCN and LCN"][2:-2, 2:-2], expected, atol=2e-5)
    np.testing.assert_allclose(np.nanmean(panels["GCN"]), 0, atol=1e-4)
    np.testing.assert_allclose(np.nanstd(panels["GCN"]), 1, rtol=1e-4)
    assert panels["as read, enlarged"].shape == (120, 120)


def test_vectors_share_a_scale(drawn, tmp_path: Path) -> None:
    vectors = [np.linspace(0, height, 720) for height in (5, 2, 0.5)]
    nothing = np.zeros((CROP, CROP)), np.ones((CROP, CROP), bool)
    examples = [
        Example("simulated set LN83", number, label, *nothing)
        for number, label in zip((9, 8, 7), (HIT, MAYBE, MISS), strict=True)
    ]
    draw_vectors(examples, vectors, tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert f"{SIMULATED} LN83" in figure.get_suptitle()
    for axis in figure.axes:
        assert axis.get_ylim() == (0, pytest.approx(5.4))
    for axis, vector in zip(figure.axes, vectors, strict=True):
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), vector)
    assert [axis.texts[0].get_text() for axis in figure.axes] == [
        "HIT: frame 9",
        "MAYBE: frame 8",
        "MISS: frame 7",
    ]


def features(count: int, shift: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)) + shift * np.eye(16)[3]


def test_overlapping_features_cannot_be_told_apart() -> None:
    assert told_apart(features(400, 0, 0), features(400, 0, 1)) == pytest.approx(50, abs=6)
    # Guessing the larger set would be right in ten of eleven frames.
    assert told_apart(features(1000, 0, 0), features(100, 0, 1)) == pytest.approx(50, abs=9)


def test_features_apart_are_told_apart() -> None:
    assert told_apart(features(200, 0, 0), features(300, 9, 1)) == pytest.approx(100, abs=0.5)
    # Two normal distributions two deviations apart: the best rule is right with the chance of a normal below 1.
    assert told_apart(features(2000, 0, 0), features(2000, 2, 1)) == pytest.approx(84.1, abs=1.5)
    assert told_apart(features(9, 0, 0), features(500, 9, 1)) is None


def test_embedding_has_a_panel_for_each_network_and_class(drawn, tmp_path: Path) -> None:
    labels = (np.repeat([MISS, MAYBE, HIT], [30, 4, 20]), np.repeat([HIT, MISS], [25, 25]))
    networks = {
        name: (features(len(labels[0]), 0, 1), features(len(labels[1]), shift, 2))
        for name, shift in (("DANN", 0), ("source-only CNN", 9))
    }
    apart = draw_features(networks, labels, "features of LN83 (source) and LO19", tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert figure.get_suptitle().startswith("features of LN83 (source) and LO19 (target")
    panels = [(name, LABEL_WORDS[label].lower()) for name in networks for label in (MISS, MAYBE, HIT)]
    assert [axis.get_title() for axis in figure.axes] == [
        f"({letter}) {network}, {word}" for letter, (network, word) in zip("abcdef", panels, strict=True)
    ]
    assert apart["source-only CNN"]["hit"] > 85
    assert apart["DANN"]["hit"] < 75
    assert "maybe" not in apart["DANN"]
    for axis, (network, word) in zip(figure.axes, panels, strict=True):
        percent = apart[network].get(word)
        told = "too few frames" if percent is None else f"told apart: {percent:.1f} %"
        assert axis.get_xlabel().startswith(told)
    # All points are drawn where there are not too many.
    assert sum(len(some.get_offsets()) for some in figure.axes[0].collections) == 30 + 25


def test_thin_lines_keep_their_colour_in_files_of_few_colours() -> None:
    pixels = np.repeat(np.random.default_rng(0).integers(0, 256, (200, 200, 1)), 3, axis=-1).astype(np.uint8)
    pixels[50, :40] = (196, 52, 43)
    pixels[:2] = 255
    fewer = np.asarray(paper_drawing._fewer_colours(pixels).convert("RGB")).astype(int)
    assert (fewer[:2] == 255).all()
    np.testing.assert_allclose(fewer[50, :40], np.broadcast_to((196, 52, 43), (40, 3)), atol=3)
    assert np.abs(fewer - pixels).max() <= 5


# Pictures of all methods


@pytest.fixture(scope="module")
def runs() -> list:
    """Every run of two seeds."""
    return every_run()


def test_precision_recall_curves_and_points(runs, drawn, tmp_path: Path) -> None:
    draw_precision_recall(runs, "simulated sets", tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert figure.get_suptitle().startswith("simulated sets:")
    shown = [method for method in METHODS.values() if method.variant == AS_PUBLISHED]
    for axis, tested in zip(figure.axes, SETS, strict=True):
        curves = [line for line in axis.lines if len(line.get_xdata()) > 1]
        assert len(curves) == len(shown)
        for line, method in zip(curves, shown, strict=True):
            expected = precision_curve(runs, method, tested, line.get_xdata() / 100)
            np.testing.assert_allclose(line.get_ydata() / 100, expected)
        positive = classes()[tested][160:] > 0
        pair = TABLE_1[tested, tested]
        point = (pair.recall, 100 * published_precision(pair, positive.sum(), (~positive).sum()))
        diamonds = [
            (line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines if line.get_marker() == "D"
        ]
        assert any(np.allclose(point, diamond) for diamond in diamonds)
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {method.title for method in shown}


def test_overview_shows_means_and_the_papers(runs, drawn, tmp_path: Path) -> None:
    draw_overview(record_of(runs), tmp_path / "f.png")
    check_picture(tmp_path / "f.png")
    (figure,) = drawn
    assert figure.get_suptitle().startswith("simulated sets,")
    recall = figure.axes[0]
    expected = mean_of(runs, METHODS["dann"], "recall")
    bars = [bar for bar in recall.containers if np.isclose(bar.lines[0].get_xdata()[0], expected)]
    assert bars, "the mean over sets, pairs and seeds has its dot"
    diamonds = [line.get_xdata()[0] for line in recall.lines if line.get_marker() == "D"]
    assert np.any(np.isclose(diamonds, (96.92 + 94.91 + 96.30) / 3))
    without = [m for m in METHODS.values() if m.method == "spot_counter" or m.variant == FEWER]
    assert len(diamonds) == len(METHODS) - len(without) == 12


def test_pictures_of_few_runs(drawn, tmp_path: Path) -> None:
    run = make_run("supervised", "LN83", simulated=False)
    record = record_of([run], quick=True)
    draw_precision_recall([run], record["data"], tmp_path / "curves.png")
    draw_overview(record, tmp_path / "overview.png")
    assert all(figure.get_suptitle().startswith("CXIDB 76, quick") for figure in drawn)


# Frames to show


def test_examples_have_the_median_number_of_spots(tmp_path: Path) -> None:
    words = ["MISS", "HIT", "HIT", "MAYBE", "MISS", "HIT", "MISS"]
    shape = (CROP, CROP)
    path = tmp_path / "ln83" / "r0018_2000.h5"
    with SetWriter(path, 7, shape, np.int16, 7, SetMetadata((64.0, 64.0), 0.177)) as writer:
        writer.append(
            np.arange(7, dtype=np.int16)[:, None, None] * np.ones(shape, np.int16), np.ones(7), np.ones(7)
        )
    lines = [f"r0018_2000.h5 [{n}] {word}\n" for n, word in enumerate(words, start=1)]
    (path.parent / "expert_annotation.txt").write_text("".join(lines))
    with open_set(tmp_path, "LN83") as frame_set:
        examples = choose_examples(frame_set, np.array([0, 40, 90, 6, 1, 20, 3]))
        assert [(example.label, example.number) for example in examples] == [(HIT, 2), (MAYBE, 4), (MISS, 5)]
        assert [int(example.crop[0, 0]) for example in examples] == [1, 3, 4]
        frame_set.labels[:] = MISS
        with pytest.raises(UserError, match="no frame of each class"):
            choose_examples(frame_set, np.zeros(7))


def test_whole_frames_are_read_where_the_set_has_them(tmp_path: Path) -> None:
    path = tmp_path / "lo19" / "r0020_2000.h5"
    shape = (1100, 1100)
    frames = np.random.default_rng(0).integers(0, 99, (2, *shape)).astype(np.int16)
    with SetWriter(path, 2, shape, np.int16, 2, SetMetadata((64.0, 64.0), 0.177), simulated=False) as writer:
        writer.append(frames, np.ones(2), np.ones(2))
    (path.parent / "expert_annotation.txt").write_text("r0020_2000.h5 [1] MISS\nr0020_2000.h5 [2] HIT\n")
    with open_set(tmp_path, "LO19") as frame_set:
        frame, good = whole_frame(frame_set, 2)
    np.testing.assert_array_equal(frame, frames[1])
    assert good is None


@pytest.mark.slow
def test_simulated_sets_are_simulated_again_in_full(tmp_path: Path) -> None:
    simulate_set("LN83", tmp_path, 10, quiet=True)
    with open_set(tmp_path, "LN83") as frame_set:
        frame, good = whole_frame(frame_set, 4)
        small = frame_set.crops([3])[0]
    assert frame.shape == good.shape == (1920, 1920)
    middle = frame[598:1322, 598:1322].astype(float)
    assert np.corrcoef(middle.ravel(), small.ravel())[0, 1] > 0.9
