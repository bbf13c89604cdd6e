"""What is left out of frames by its values, and by masks of single frames, has a line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError
from sfxjax.live.first_frame import first_frame
from sfxjax.live.judge import Looks
from sfxjax.screen.left_out import line_of_crops
from sfxjax.screen.options import ScreenOptions
from sfxjax.screen.pipeline import Screening

pytestmark = pytest.mark.usefixtures("compiled_at_once")

SHAPE = (96, 120)


def screened(run: Path, *options: object) -> list[str]:
    """Screen a run; returns what the summary says of values that were left out."""
    out = run.parent / "out"
    cases.screen(run, "--out", out, "--no-report", *options)
    return list(json.loads((out / "summary.json").read_text())["values_left_out"])


@pytest.mark.parametrize(
    ("dtype", "values", "named"),
    [
        (np.int32, (-1,), "360 of -1"),
        (np.int32, (-9999, -9998), "360 of -9999, 360 of -9998"),
        (np.int32, (-9999, -1), "360 of -9999, 360 of -1"),
        (np.int16, (-32768,), "360 of -32768"),
        (np.float32, (np.nan,), "360 of NaN"),
        (np.float32, (np.nan, -1e6), "360 of -1000000, 360 of NaN"),
        (np.int32, (), ""),
    ],
)
def test_values_that_are_left_out_are_named(
    dtype: Any, values: tuple[float, ...], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.random.default_rng(0).poisson(20, (2, *SHAPE)).astype(dtype)
    for place, value in enumerate(values):
        frames[:, 10 + 20 * place : 13 + 20 * place] = value
    lines = screened(cases.write_cxi(tmp_path / "run.cxi", frames))
    if not values:
        assert lines == []
        return
    count = 360 * len(values)
    (line,) = lines
    assert line == (
        f"in the first frame {count} of 11,520 pixels ({100 * count / 11520:.2g} %) were left out by their values: {named}"
    )
    assert line in capsys.readouterr().out


def test_of_panels_masks_and_high_values_only_the_rest_is_named(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).poisson(20, (2, 3, *SHAPE)).astype(np.int32)
    frames[:, 1, 10:13], frames[:, 2, 50:54] = -1, 65535
    mask = np.zeros(frames.shape[1:], np.uint8)
    mask[0, :5], mask[1, 10] = 1, 1
    run = cases.write_cxi(tmp_path / "run.cxi", frames)
    with h5py.File(run, "a") as file:
        file["/entry_1/data_1/mask"] = mask
    lines = screened(run)
    assert "in the first frame 240 of 34,560 pixels" in lines[0] and lines[0].endswith(": 240 of -1")
    assert lines[1] == (
        "in the first frame 480 of 34,560 pixels (1.4 %) were left out as 65534 or more, since the highest values of 16 bits "
        "mean gaps and dead pixels"
    )
    assert "in 2 frames pixels of 65534 and more" in lines[2]


@pytest.mark.parametrize(
    ("dtype", "value", "rule"),
    [
        (np.uint16, 65535, "the highest values of uint16"),
        (np.uint32, 2**32 - 1, "the highest values of uint32"),
        (np.int32, 2**31 - 1, "the highest values of int32"),
        (np.int64, 2**32 - 1, "the highest values of 32 bits"),
        (np.float32, 2**32, "the highest values of 32 bits"),
        (np.float64, 2**32 - 1, "the highest values of 32 bits"),
        (np.int32, 9999, "many pixels hold the highest value"),
    ],
)
def test_the_highest_values_are_named_with_their_rule(
    dtype: Any, value: float, rule: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.random.default_rng(0).poisson(20, (2, *SHAPE)).astype(dtype)
    frames[:, 10:13] = value
    line = next(line for line in screened(cases.write_cxi(tmp_path / "run.cxi", frames)) if "since" in line)
    assert line.startswith("in the first frame 360 of 11,520 pixels (3.1 %) were left out as ")
    assert f"or more, since {rule}" in line and line in capsys.readouterr().out


def test_hearts_of_saturated_spots_count_and_are_named(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).poisson(20, (2, *SHAPE)).astype(np.uint16)
    frames[:, 10:13] = 65535
    for place in range(30, 90, 15):
        flank = np.random.default_rng(place).integers(4000, 9000, (5, 5))
        frames[:, place - 2 : place + 3, place - 2 : place + 3] = flank
        frames[:, place - 1 : place + 2, place - 1 : place + 2] = 65535
    run = cases.write_cxi(tmp_path / "run.cxi", frames)
    with h5py.File(run, "a") as file:
        file["/entry_1/instrument_1/detector_1/saturation_value"] = 20000
    (line, _) = screened(run)
    assert line == (
        "in the first frame 360 of 11,520 pixels (3.1 %) were left out as 20001 or more, since the file says that pixels are "
        "saturated there; 36 more lie in saturated spots, and count"
    )


def test_what_a_network_does_not_read_is_named(tmp_path: Path) -> None:
    frames = cases.frames(2, 740, "int32")
    frames[:, 300:310, :], frames[:, 400:410, :] = -1, -9999
    run = cases.write_cxi(tmp_path / "run.cxi", frames)
    with Screening(cases.tiny_model(), ScreenOptions((str(run),), tmp_path / "out", readers=1)) as screening:
        screening.find_frames()
        (line,) = line_of_crops(screening)
    # Of the crop.
    assert "in the first frame 14,480 of 524,176 pixels" in line and "7,240 of -1" in line
    assert "7,240 of NaN or a number far below all others" in line


def line_of_masks(masks: np.ndarray, path: Path) -> str:
    with h5py.File(path, "w") as file:
        file["/entry_1/data_1/data"], file["/entry_1/data_1/mask"] = np.ones(masks.shape, np.uint16), masks
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        (line,) = reader.shared_mask(stack).lines
    return line


def test_masks_of_single_frames_are_summed_up_by_several(tmp_path: Path) -> None:
    masks = np.zeros((30, *SHAPE), np.uint8)
    assert line_of_masks(masks[:2], tmp_path / "none.cxi").endswith(": 0 of 11,520 pixels left out")
    for number in range(1, 30):
        masks[number, : number + 1] = 1
    line = line_of_masks(masks, tmp_path / "run.cxi")
    assert line.startswith("a mask of each frame, /entry_1/data_1/mask in the frames' file (0 is good): ")
    assert line.endswith(": 0 to 3,600 of 11,520 pixels left out of 8 frames looked at")
    # A frame that is masked throughout is no mask of the other polarity.
    masks[0] = 1
    assert "to 11,520 of" in line_of_masks(masks, tmp_path / "first.cxi")
    with pytest.raises(UserError, match="leaves 0 % of the pixels"):
        line_of_masks(np.ones_like(masks), tmp_path / "all.cxi")


def test_of_a_stream_the_highest_values_of_a_type_are_named() -> None:
    pixels = np.random.default_rng(0).poisson(20, SHAPE).astype(np.uint16)
    pixels[10:13] = 65535
    (line,) = first_frame(Looks(20.0, 0.0, pixels, None, 65534)).value_lines
    assert line.startswith("in the first frame 360 of 11,520 pixels (3.1 %) were left out as 65534 or more")
    assert "the highest values of uint16" in line
    mask = pixels < 100
    assert first_frame(Looks(20.0, 0.0, pixels, mask, 65534)).value_lines == []
