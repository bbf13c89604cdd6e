"""Masks in the frames' own file, in the shapes that beamlines write: used where they are clear, else named as not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.crop import padded_crop
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.hits_file import write_hits
from sfxjax.data.read import FrameReader

SHAPE = (40, 60)
BAD = np.zeros(SHAPE, np.uint32)
BAD[5:9, 20:40] = 1
FRAMES = np.random.default_rng(0).integers(0, 90, (6, *SHAPE)).astype(np.int32)
PLACES = [
    ("/entry/data/data", "/entry/instrument/detector/pixel_mask"),
    ("/entry/data/data", "/entry/instrument/detector/detectorSpecific/pixel_mask"),
    ("/entry_1/data_1/data", "/entry_1/data_1/mask"),
    ("/entry_1/data_1/data", "/entry_1/instrument_1/detector_1/mask_shared"),
]


def write(path: Path, frames: np.ndarray, mask: np.ndarray, places: tuple[str, str]) -> Path:
    with h5py.File(path, "w") as file:
        file[places[0]], file[places[1]] = frames, mask
    return path


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize(
    ("frames", "mask"),
    [
        (FRAMES, BAD),
        (FRAMES, BAD[None]),
        (FRAMES, BAD.astype(bool)),
        (FRAMES, BAD.astype(np.float32)),
        (FRAMES, BAD.astype(np.int8)),
        (FRAMES[:, None], BAD),
        (FRAMES[:, None], BAD[None]),
    ],
)
def test_a_mask_that_all_frames_share(
    frames: np.ndarray, mask: np.ndarray, places: Any, tmp_path: Path
) -> None:
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(write(tmp_path / "run.h5", frames, mask, places)))
        np.testing.assert_array_equal(reader.static_mask(stack), padded_crop(BAD == 0, np.dtype(bool)))
        assert not stack.notes and f"mask {places[1]}" in stack.describe()


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("dtype", [np.uint32, np.float32, bool])
def test_one_mask_a_frame(dtype: Any, places: Any, tmp_path: Path) -> None:
    masks = np.stack([np.roll(BAD, 3 * number, axis=0) for number in range(len(FRAMES))]).astype(dtype)
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(write(tmp_path / "run.h5", FRAMES, masks, places)))
        found = [mask for _, mask, *_ in reader.read(stack, range(len(FRAMES)), np.dtype(np.int32))]
    covered = padded_crop(np.ones(SHAPE, bool), np.dtype(bool))
    for mask, stored in zip(found, masks, strict=True):
        assert mask is not None
        np.testing.assert_array_equal(mask & covered, padded_crop(stored == 0, np.dtype(bool)))


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("mask", [BAD.T.copy(), np.zeros((3, *SHAPE), np.uint32), BAD[:, :-1]])
def test_a_mask_of_another_shape_is_named_as_not_used(mask: np.ndarray, places: Any, tmp_path: Path) -> None:
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(write(tmp_path / "run.h5", FRAMES, mask, places)))
        covered = reader.static_mask(stack)
    shape = "x".join(map(str, mask.shape))
    assert any(f"the mask {places[1]} of shape {shape} is not used" in note for note in stack.notes)
    np.testing.assert_array_equal(covered, padded_crop(np.ones(SHAPE, bool), np.dtype(bool)))
    assert ", mask " not in stack.describe()


def described(path: Path, **options: Any) -> tuple[FrameStack, np.ndarray | None, str]:
    """Return a file's stack, the mask that its frames share, and all that is said of both."""
    with FrameReader(ReadOptions(**options)) as reader:
        (stack,) = reader.stacks(str(path))
        shared = reader.shared_mask(stack)
    return stack, shared.good, "\n".join((*stack.notes, *shared.lines))


def put_far(file: h5py.File, name: str) -> None:
    with h5py.File(Path(file.filename).with_name("far.h5"), "w") as far:
        far["/other"] = 1
    file[name] = h5py.ExternalLink("far.h5", "/mask")


def put_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink("/nowhere")


def put_lost(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("lost.h5", "/mask")


UNUSABLE: list[tuple[Any, str]] = [
    (put_link, "it is a link to /nowhere, where there is nothing"),
    (put_far, "it is a link to /mask in far.h5, where there is nothing"),
    (put_lost, "lost.h5, which is missing"),
    (lambda file, name: file.create_group(name), "it is a group, no data set"),
    (lambda file, name: file.create_dataset(name, data=h5py.Empty("u4")), "it is empty"),
    (lambda file, name: file.create_dataset(name, data="none"), "no real numbers"),
    (lambda file, name: file.create_dataset(name, data=BAD.astype(np.complex64)), "no real numbers"),
    (lambda file, name: file.create_dataset(name, data=np.uint32(0)), "it is a single value"),
]


@pytest.mark.parametrize(("put", "words"), UNUSABLE)
@pytest.mark.parametrize("places", PLACES)
def test_a_mask_that_cannot_be_used_is_named_with_the_reason(
    put: Any, words: str, places: Any, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file[places[0]] = FRAMES
        put(file, places[1])
    stack, good, said = described(path)
    assert good is None and ", mask " not in stack.describe()
    (line,) = said.splitlines()
    assert f"the mask {places[1]} is not used: " in line and words in line


@pytest.mark.parametrize(
    "names",
    [
        ("/entry/instrument/detector/pixel_mask", "/entry/instrument/detector/detectorSpecific/pixel_mask"),
        ("/entry/instrument/detector/pixel_mask", "/entry/data/pixel_mask"),
        ("/entry/instrument/ELE_D0/pixel_mask", "/entry/instrument/ELE_D0/pixelmask"),
    ],
)
def test_a_pixel_is_bad_if_any_mask_of_its_detector_says_so(names: tuple[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", FRAMES, BAD, ("/entry/data/data", names[0]))
    with h5py.File(path, "a") as file:
        file[names[1]] = np.roll(BAD, 20, axis=0).astype(np.float32)
    stack, good, said = described(path)
    assert set(stack.mask_datasets) == set(names) and not stack.notes
    np.testing.assert_array_equal(good, (BAD == 0) & (np.roll(BAD, 20, axis=0) == 0))
    assert said.count("80 of 2,400 pixels (3.3 %) left out") == 2
    # The same mask under a second name counts once.
    with h5py.File(path, "a") as file:
        del file[names[1]]
        file[names[1]] = file[names[0]]
    stack, good, said = described(path)
    assert len(stack.mask_datasets) == 1 and not stack.notes and said.count("left out") == 1


def test_masks_in_16_bits_and_in_8_of_one_cxi_file(tmp_path: Path) -> None:
    path = write(tmp_path / "run.cxi", FRAMES, BAD.astype(np.uint8), PLACES[2])
    shared = np.zeros(SHAPE, np.uint16)
    shared[0, :5], shared[1, :5] = 8192, 8
    with h5py.File(path, "a") as file:
        file["/entry_1/data_1/mask_shared"] = shared
    np.testing.assert_array_equal(described(path)[1], (BAD == 0) & (shared != 8))


def test_the_mask_of_another_detector_is_named(tmp_path: Path) -> None:
    places = ("/entry/data/data", "/entry/instrument/ELE_D0/pixel_mask")
    path = write(tmp_path / "run.h5", FRAMES, BAD, places)
    with h5py.File(path, "a") as file:
        file["/entry/instrument/ELE_D1/pixel_mask"] = 1 - BAD
    _, good, said = described(path)
    np.testing.assert_array_equal(good, BAD == 0)
    assert "the mask /entry/instrument/ELE_D1/pixel_mask is not used, since another one is" in said


def test_a_mask_that_lies_elsewhere_is_named_with_that_reason(tmp_path: Path) -> None:
    places = ("/entry_1/data_1/data", "/entry_1/image_1/mask_shared")
    path = write(tmp_path / "run.cxi", FRAMES, BAD, places)
    _, good, said = described(path)
    assert good is None
    named = f"--mask {path}:{places[1]}"
    assert said == (
        f"{path}: the mask {places[1]} is not used, since it does not lie with the frames or their detector; to use it give "
        f"{named} --mask-good 0"
    )
    _, good, _ = described(path, mask=f"{path}:{places[1]}", mask_good=0)
    np.testing.assert_array_equal(good, BAD == 0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "name",
    ["bad_pixels", "badpixel_map", "BadPixelsDark", "dead_pixels", "hotpix", "pixel_status", "defects"],
)
def test_maps_of_bad_pixels_are_named(name: str, masked: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["/entry/data/data"], file[f"/calibration/{name}"] = FRAMES, BAD
        file["/calibration/pixel_mask_applied"] = True
        file["/calibration/data"], file["/gain_map"] = np.ones(SHAPE), np.ones(SHAPE)
        if masked:
            file["/entry/instrument/detector/pixel_mask"] = np.roll(BAD, 20, axis=0)
    stack, good, said = described(path)
    assert (good is not None) == masked
    (note,) = stack.notes
    assert f"the mask /calibration/{name} of shape 40x60 is not used" in note and "--mask-good 0 or 1" in note
    # What the user names needs no such line.
    named = f"{path}:/calibration/{name}"
    stack, good, said = described(path, mask=named, mask_good=0)
    np.testing.assert_array_equal(good, BAD == 0)
    assert "is not used" not in said and (f"is replaced by {named}" in said) == masked


def test_a_list_of_bad_pixels_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", FRAMES, np.ones((7, 2), int), ("/entry/data/data", "/bad_pixels"))
    assert "the mask /bad_pixels of shape 7x2 is not used: the frames have 40x60 pixels" in described(path)[2]


@pytest.mark.parametrize("name", ["bit_depth_readout", "saturation_value", "is_good_frame"])
@pytest.mark.parametrize(("put", "words"), UNUSABLE[:-1])
def test_what_a_file_says_of_its_detector_and_cannot_be_used_is_named(
    name: str, put: Any, words: str, tmp_path: Path
) -> None:
    path, place = tmp_path / "run.h5", f"/entry/instrument/detector/{name}"
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = FRAMES
        put(file, place)
    (note,) = described(path)[0].notes
    assert f"{place} is not used: " in note and words in note


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("bit_depth_image", 0, "is 0, which is not used"),
        ("saturation_value", 7, "is 7, which is not used"),
        ("saturation_value", [900, 1000], "it holds 2 values, not one"),
        ("is_good_frame", [1, 0, 1], "it has 3 values for 6 frames"),
        ("is_good_frame", [1, 0, 1, 0, 1, 0.5], "it has values besides 0 and 1"),
        ("is_good_frame", [1, 0, 1, 0, 1, np.nan], "it has values besides 0 and 1"),
    ],
)
def test_values_of_no_meaning_are_named(name: str, value: Any, words: str, tmp_path: Path) -> None:
    place = f"/entry/instrument/detector/{name}"
    path = write(tmp_path / "run.h5", FRAMES, value, ("/entry/data/data", place))
    stack, _, said = described(path)
    assert place in said and words in said and not stack.not_good


def test_good_frames_may_be_told_by_floats_and_for_frames_that_were_not_written(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("/entry/data/data", (9, *SHAPE), "i4", chunks=(1, *SHAPE))
        data[:6] = FRAMES
        file["/entry/instrument/detector/is_good_frame"] = np.array([1, 0, 1, 1, 0, 1, 0, 0, 0], np.float32)
    stack, _, said = described(path)
    assert stack.not_good == (1, 4) and "2 of 6 frames are not good" in said


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (
            h5py.SoftLink("/entry/instrument/gone"),
            "it is a link to /entry/instrument/gone, where there is nothing",
        ),
        (h5py.ExternalLink("lost.h5", "/detector"), "lost.h5, which is missing"),
    ],
)
def test_a_detector_behind_a_broken_link_is_named(link: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = FRAMES
        file["/entry/instrument/detector"] = link
    (note,) = described(path)[0].notes
    assert "/entry/instrument/detector is not used: " in note and words in note


@pytest.mark.parametrize("place", ["/entry_1/data_1/mask", "/entry_1/instrument_1/detector_1/mask_shared"])
@pytest.mark.parametrize("shape", [(5, 24, 32), (9, 24, 32), (24, 32)])
@pytest.mark.parametrize("frames", [5, 9, 24])
def test_a_mask_that_all_frames_share_goes_whole_with_the_hits(
    place: str, shape: tuple[int, ...], frames: int, tmp_path: Path
) -> None:
    mask = np.zeros(shape, np.uint16)
    mask[..., 3, 5:9] = mask[0, 4] = 1
    path = cases.write_cxi(tmp_path / "run.cxi", np.ones((frames, *shape), np.uint16))
    with h5py.File(path, "a") as file:
        file[place] = mask
    options = ReadOptions(panels_apart=True)
    with FrameReader(options) as reader:
        (stack,) = reader.stacks(str(path))
        assert stack.mask_datasets == (place,)
        write_hits(reader, tmp_path / "hits.cxi", [(stack, [0, 3])], [0, 3], [0.9, 0.8])
    with FrameReader(options) as reader:
        (stack,) = reader.stacks(str(tmp_path / "hits.cxi"))
        np.testing.assert_array_equal(reader.whole(stack, 1).mask, mask == 0)


def test_the_mask_of_a_master_goes_with_the_hits_of_its_parts(tmp_path: Path) -> None:
    mask = np.zeros((64, 80), np.uint32)
    mask[10:14] = 8
    for number in (1, 2):
        with h5py.File(tmp_path / f"x_data_00000{number}.h5", "w") as file:
            file["/entry/data/data"] = np.full((3, 64, 80), number, np.uint16)
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        file["/entry/instrument/detector/detectorSpecific/pixel_mask"] = mask
        for number in (1, 2):
            name = f"data_00000{number}"
            file[f"/entry/data/{name}"] = h5py.ExternalLink(f"x_{name}.h5", "/entry/data/data")
    with FrameReader(ReadOptions()) as reader:
        stacks = reader.stacks(str(tmp_path / "x_master.h5"))
        write_hits(reader, tmp_path / "hits.cxi", [(stack, [1]) for stack in stacks], [1, 4], [0.9, 0.8])
        (stack,) = reader.stacks(str(tmp_path / "hits.cxi"))
        np.testing.assert_array_equal(reader.whole(stack, 1).mask, mask == 0)
