from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases
from test_day_one import PLACES, crystal_frame

from sfxjax.data.bad_pixels import find_bad_pixels
from sfxjax.data.masks import good_pixels, read_mask_file
from sfxjax.errors import UserError

GOOD = np.array([[True, False, True], [True, True, True]])


def stored(path: Path, name: str, values: np.ndarray, mode: str = "w") -> str:
    with h5py.File(path, mode) as file:
        file[name] = values
    return f"{path}:{name}"


@pytest.mark.parametrize("good_bits", [None, 0, 0x3])
@pytest.mark.parametrize("bad_bits", [None, 0x4, 0x280])
def test_bit_fields_follow_crystfels_rule(good_bits: int | None, bad_bits: int | None) -> None:
    values = np.arange(2048, dtype=np.uint16).reshape(32, 64)
    wanted, unwanted = good_bits or 0, bad_bits or 0
    expected = [
        v == 0 if good_bits is None and bad_bits is None else v & wanted == wanted and not v & unwanted
        for v in range(2048)
    ]
    found = good_pixels(values, 0, good_bits, bad_bits)
    np.testing.assert_array_equal(found.ravel(), expected)


@pytest.mark.parametrize(
    ("name", "dataset", "good_value"),
    [
        ("m.h5", "/entry_1/data_1/mask", 0),
        ("m.h5", "/entry_1/instrument_1/detector_1/mask_shared", 0),
        ("m.h5", "/entry/instrument/detector/pixel_mask", 0),
        ("staticMask.h5", "/entry_1/data_1/mask", 1),
        ("staticMask_r0012.h5", "/entry_1/data_1/mask", 1),
    ],
)
def test_a_known_format_settles_the_polarity(
    tmp_path: Path, name: str, dataset: str, good_value: int
) -> None:
    values = np.where(GOOD, good_value, 1 - good_value).astype(np.uint8)
    text = stored(tmp_path / name, dataset, values)
    if name == "m.h5":  # A mask beside the frames is CXI's.
        stored(tmp_path / name, "/entry_1/data_1/data", np.zeros((2, *GOOD.shape)), "a")
        text_alone = stored(tmp_path / "alone.h5", dataset, values)
        if dataset.endswith("/mask"):
            with pytest.raises(UserError, match="--mask-good 0 or --mask-good 1"):
                read_mask_file(text_alone)
    np.testing.assert_array_equal(read_mask_file(text), GOOD)
    # The path may be left out where there is one mask only; the user's word overrides the format's.
    np.testing.assert_array_equal(read_mask_file(str(tmp_path / name)), GOOD)
    np.testing.assert_array_equal(read_mask_file(text, 1 - good_value), ~GOOD)


@pytest.mark.parametrize("kind", ["h5", "npy", "npz"])
def test_an_unknown_polarity_is_asked_for(tmp_path: Path, kind: str) -> None:
    values = GOOD.astype(np.uint8)
    text = str(tmp_path / f"m.{kind}")
    if kind == "h5":
        text = stored(tmp_path / "m.h5", "/data/data", values)
    elif kind == "npy":
        np.save(text, values)
    else:
        np.savez(text, good=values)
    with pytest.raises(UserError, match="--mask-good 0 or --mask-good 1"):
        read_mask_file(text)
    np.testing.assert_array_equal(read_mask_file(text, 1), GOOD)
    np.testing.assert_array_equal(read_mask_file(text, 0), ~GOOD)


def test_a_bool_array_called_good_needs_no_asking(tmp_path: Path) -> None:
    np.savez(tmp_path / "mask.npz", good=GOOD)
    np.testing.assert_array_equal(read_mask_file(str(tmp_path / "mask.npz")), GOOD)


class Trap:
    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (Path("sprung"),))


@pytest.mark.parametrize("kind", ["pickle", "npy"])
def test_a_pickle_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("mask.pickle" if kind == "pickle" else "mask.npy")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    else:
        np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="mask"):
        read_mask_file(str(path), 1)
    assert not (tmp_path / "sprung").exists()


def test_a_mask_without_a_good_pixel_is_refused(tmp_path: Path) -> None:
    text = stored(tmp_path / "m.h5", "/entry_1/data_1/mask", np.ones((4, 4), np.uint8))
    with pytest.raises(UserError, match="--mask-good 1"):
        read_mask_file(text)


def test_a_mask_alone_with_bits_of_cxi_is_known_and_its_marks_of_peaks_are_no_faults(tmp_path: Path) -> None:
    values = np.array([[0, 1, 8192], [16384, 2048, 256 | 8]], np.uint16)
    text = stored(tmp_path / "m.h5", "/entry_1/data_1/mask", values)
    np.testing.assert_array_equal(read_mask_file(text), [[True, False, True], [True, True, False]])


def test_a_polarity_that_leaves_next_to_nothing_is_asked_about(tmp_path: Path) -> None:
    values = np.ones((40, 40), np.uint8)
    values[:, 0] = 0
    text = stored(tmp_path / "m.h5", "/entry/instrument/detector/pixel_mask", values)
    with pytest.raises(UserError, match="only 2.5 % of the pixels are good if 0 is good; give --mask-good 1"):
        read_mask_file(text)
    assert read_mask_file(text, 1).mean() == 0.975


def test_large_gaps_are_found_whatever_their_share(tmp_path: Path) -> None:
    data = cases.frames(20, 128)
    data[:, 40:60] = 0
    data[:, :, 100:110] = 7
    bad, _ = find_bad_pixels(data.astype(np.float32) * 1e-3)
    assert bad is not None
    expected = np.zeros((128, 128), bool)
    expected[40:60] = expected[:, 100:110] = True
    np.testing.assert_array_equal(bad, expected)


def test_dead_and_stuck_pixels_are_found_and_no_others() -> None:
    data = cases.frames(20, 64)
    data[:, 10, 20] = 3
    data[:, 30, 40] = 65535
    bad, line = find_bad_pixels(data)
    assert bad is not None
    assert np.argwhere(bad).tolist() == [[10, 20], [30, 40]]
    assert "1 pixels never change and 1 always saturate" in line


def test_hot_pixels_whose_values_change_are_found_and_hide_no_spot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    heights = [60.0, 0.0] * 8
    data = np.stack([crystal_frame(3.0, height, seed) for seed, height in enumerate(heights)])
    places = tuple(rng.permutation(np.mgrid[4:210:6, 4:190:6].reshape(2, -1).T)[:60].T)
    near = np.array([[np.hypot(y - ss, x - fs) for ss, fs in PLACES] for y, x in zip(*places, strict=True)])
    places = tuple(each[near.min(1) > 4] for each in places)
    data[:, *places] = rng.poisson(2000, (16, len(places[0])))
    found, line = find_bad_pixels(data)
    expected = np.zeros(data.shape[1:], bool)
    expected[places] = True
    assert (
        found is not None and f"and {expected.sum()} read far more than all around them in every one" in line
    )
    np.testing.assert_array_equal(found, expected)
    path = cases.write_cxi(tmp_path / "run.cxi", data)
    assert cases.screen(path, "--out", tmp_path / "out", "--no-report") == 0
    assert line in capsys.readouterr().out
    assert [row["label"] for row in cases.rows(tmp_path / "out")] == ["HIT", "MISS"] * 8
    # A mask that does not tell them changes nothing of that; what never changes is for the mask to tell.
    data[:, 100, 100] = 3
    with h5py.File(cases.write_cxi(path, data), "a") as file:
        file["/entry_1/data_1/mask"] = np.zeros((216, 192), np.uint16)
    assert cases.screen(path, "--out", tmp_path / "masked", "--no-report") == 0
    hot = f"{expected.sum()} pixels read far more than all around them in each of the first 16 frames: masked"
    assert f"besides what the masks leave out: {hot}" in capsys.readouterr().out
    assert json.loads((tmp_path / "masked" / "summary.json").read_text())["bad_pixels"] == hot
    assert [row["label"] for row in cases.rows(tmp_path / "masked")] == ["HIT", "MISS"] * 8


def test_bad_pixels_are_found_where_files_of_a_run_differ_in_type() -> None:
    data = np.random.default_rng(4).poisson(30, (20, 48, 64)).astype(np.int32)
    data[:, 10, 12] += 5000
    data[:, 20:24, 30] = 7
    types = [np.uint16, np.int32, np.float32, np.int64, np.int16] * 4
    mixed = [frame.astype(dtype) for frame, dtype in zip(data, types, strict=True)]
    (bad, line), (expected, same) = find_bad_pixels(mixed), find_bad_pixels(data)
    assert bad is not None and bad.sum() == 5 and line == same
    np.testing.assert_array_equal(bad, expected)


@pytest.mark.parametrize("level", [0.05, 3.0, 3000.0])
def test_pixels_that_respond_more_and_spots_that_stay_are_not_hot(level: float) -> None:
    rng = np.random.default_rng(2)
    response = rng.normal(1, 0.1, (216, 192)).clip(0.5)
    spots = [crystal_frame(level, 20 * (level + 1), seed) for seed in range(16)]
    data = rng.poisson(np.stack(spots) * response)
    assert find_bad_pixels(data) == (None, "")
    assert find_bad_pixels(rng.normal(data - 50.0, 2).astype(np.float32)) == (None, "")


@pytest.mark.parametrize("kind", ["few frames", "one frame again and again", "counting detector"])
def test_frames_that_cannot_tell_condemn_no_pixel(kind: str) -> None:
    data = cases.frames(20, 64)
    if kind == "few frames":
        data = data[:10]
    elif kind == "one frame again and again":
        data = np.repeat(data[:1], 20, 0)
    else:
        data = np.random.default_rng(0).poisson(0.01, data.shape).astype(np.uint16)
    assert find_bad_pixels(data) == (None, "")
