"""TIFF stacks whose list of images is cut short, damaged or leads in circles: no image is lost in silence, none taken twice."""

from __future__ import annotations

import bz2
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.formats.tiff_pages import MOST_LOST
from sfxjax.data.frames import FrameStack, ReadOptions
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError

pytest.importorskip("fabio")
FRAMES = cases.frames(6, 80)[:, :, :72]
PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}


class Stack:
    """A TIFF stack, each image's directory behind its pixels or, `apart`, all directories at the end."""

    def __init__(
        self,
        order: str = "<",
        big: bool = False,
        apart: bool = False,
        said: bytes = b"",
        frames: np.ndarray = FRAMES,
    ) -> None:
        self.wide, self.order = order + ("Q" if big else "I"), order
        self.content = bytearray(
            (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
        )
        self.content += struct.pack(order + "HH", 8, 0) if big else b""
        self.next_at = [len(self.content)]
        self.directories: list[int] = []
        self.content += struct.pack(self.wide, 0)
        waiting = []
        for frame in frames:
            waiting.append((len(self.content), frame))
            self.content += frame.astype(f"{order}u2").tobytes()
            if not apart:
                self._directory(*waiting.pop(), said, big)
        for place, frame in waiting:
            self._directory(place, frame, said, big)

    def _directory(self, place: int, frame: np.ndarray, said: bytes, big: bool) -> None:
        height, width = frame.shape
        values = {
            256: width,
            257: height,
            258: 16,
            259: 1,
            262: 1,
            273: place,
            277: 1,
            278: height,
            279: 2 * frame.size,
        }
        text_at = len(self.content)
        self.content += said
        self.point_to(len(self.content))
        self.directories.append(len(self.content))
        entries = [(tag, 16 if big else 4, 1, value) for tag, value in values.items()]
        if said:
            entries = sorted([*entries, (270, 2, len(said), text_at)])
        self.content += struct.pack(self.order + ("Q" if big else "H"), len(entries))
        for entry in entries:
            self.content += struct.pack(self.order + ("HHQQ" if big else "HHII"), *entry)
        self.next_at.append(len(self.content))
        self.content += struct.pack(self.wide, 0)

    def point_to(self, place: int) -> None:
        """Name a place as that of the next directory, at the end of the list."""
        struct.pack_into(self.wide, self.content, self.next_at[-1], place)


def read(path: Path) -> tuple[FrameStack, list[np.ndarray | str]]:
    """Return the stack, and every frame or why it is none."""
    found: list[np.ndarray | str] = []
    with FrameReader(ReadOptions()) as reader:
        (stack,) = reader.stacks(str(path))
        for number in range(stack.frames):
            try:
                found.append(reader.original(stack, number))
            except UserError as error:
                found.append(str(error))
    return stack, found


# Pillow knows no BigTIFF whose numbers begin with the highest byte.
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("packed", PACK)
def test_a_stack_that_is_cut_anywhere_has_its_frames_and_an_error(
    order: str, big: bool, packed: str, tmp_path: Path
) -> None:
    path = tmp_path / f"run.tif{packed}"
    for apart in (False, True):
        stack = Stack(order, big, apart)
        path.write_bytes(PACK[packed](stack.content))
        whole, found = read(path)
        np.testing.assert_array_equal(np.array(found), FRAMES)
        assert whole.notes == () and whole.missing == ()
        # In the pixels, at the end of an image, in its directory, and before the last byte.
        for end in (
            stack.directories[2] - 100,
            stack.directories[2],
            stack.directories[3] + 9,
            len(stack.content) - 1,
        ):
            path.write_bytes(PACK[packed](bytes(stack.content[:end])))
            known = sum(place <= end for place in stack.next_at[1:])
            if not known:
                with pytest.raises(UserError, match="cut short"):
                    read(path)
                continue
            cut, found = read(path)
            frames = [one for one in found if not isinstance(one, str)]
            assert len(found) == known + 1 and found[-1] != "" and "cut short" in str(found[-1])
            np.testing.assert_array_equal(np.array(frames), FRAMES[: len(frames)])
            assert len(frames) == known and "not known" in cut.notes[0]


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_compressed_stream_that_breaks_off_is_a_file_cut_short(packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"run.tif{packed}"
    content = PACK[packed](bytes(Stack().content))
    path.write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    assert cases.screen(path, "--out", out, "--no-report") == 1
    rows = cases.rows(out)
    assert [row["event"] for row in rows] == [f"//{number}" for number in range(len(rows))] and len(rows) > 2
    assert [row["label"] == "ERROR" for row in rows] == [*(len(rows) - 1) * [False], True]
    assert "cut short" in rows[-1]["reason"]


@pytest.mark.parametrize(
    "said",
    [b"ImageJ=1.53\nimages=6\nslices=6\n\0", json.dumps({"shape": [2, 3, 80, 72]}).encode() + b"\0"],
)
def test_frames_that_the_first_image_counts_are_missed(said: bytes, tmp_path: Path) -> None:
    stack, path = Stack(said=said), tmp_path / "run.tif"
    path.write_bytes(stack.content[: stack.directories[1] + 3])
    cut, found = read(path)
    assert len(found) == 6 and all("cut short" in str(why) for why in found[1:])
    assert cut.missing[0][:2] == (1, 5)
    # ImageJ lists one image of a large stack; their pixels follow one another.
    one = Stack(said=said, apart=True)
    struct.pack_into("<I", one.content, one.next_at[1], 0)
    path.write_bytes(one.content)
    _, found = read(path)
    assert len(found) == 6 and all("6 images, and lists 1" in str(why) for why in found[1:])
    # One image that was taken out of a stack may say so still.
    path.write_bytes(Stack(said=said, frames=FRAMES[:1]).content)
    alone, found = read(path)
    assert len(found) == 1 and "6 images, and lists 1" in alone.notes[0]
    path.write_bytes(Stack(said=b"ImageJ=1\nimages=999999999\n\0").content[:-1])
    with FrameReader(ReadOptions()) as reader:
        assert reader.stacks(str(path))[0].frames <= MOST_LOST + 6


@pytest.mark.parametrize("back_to", range(6))
@pytest.mark.parametrize("big", [False, True])
def test_a_list_that_leads_in_circles_ends(back_to: int, big: bool, tmp_path: Path) -> None:
    stack, path = Stack(big=big), tmp_path / "run.tif"
    stack.point_to(stack.directories[back_to])
    path.write_bytes(stack.content)
    described, found = read(path)
    np.testing.assert_array_equal(np.array(found), FRAMES)
    assert f"leads back to image {back_to + 1}" in described.notes[0]


def test_a_list_that_leads_to_no_directory_is_damaged(tmp_path: Path) -> None:
    stack, path = Stack(big=True), tmp_path / "run.tif"
    stack.point_to(2**64 - 1)
    path.write_bytes(stack.content)
    assert len(read(path)[1]) == 7
    stack = Stack()
    stack.point_to(1)
    path.write_bytes(stack.content)
    _, found = read(path)
    assert len(found) == 7 and "damaged" in str(found[6])
    np.testing.assert_array_equal(np.array(found[:6]), FRAMES)


def test_an_image_of_another_size_is_an_error(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pages = [image.fromarray(frame) for frame in (FRAMES[0], FRAMES[1, :40], FRAMES[2])]
    pages[0].save(tmp_path / "run.tif", save_all=True, append_images=pages[1:])
    _, found = read(tmp_path / "run.tif")
    assert found[1] == "an image of 40x72 pixels, where the file's first has 80x72"
    np.testing.assert_array_equal(np.array(found[::2]), FRAMES[[0, 2]])


def test_every_image_of_a_compressed_stack_is_a_frame(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pages = [image.fromarray(frame) for frame in FRAMES]
    for kind in ("tiff_lzw", "tiff_adobe_deflate"):
        pages[0].save(tmp_path / "run.tif", save_all=True, append_images=pages[1:], compression=kind)
        np.testing.assert_array_equal(np.array(read(tmp_path / "run.tif")[1]), FRAMES)


@pytest.mark.parametrize("packed", [".gz", ".bz2"])
def test_a_compressed_file_is_read_without_a_word(
    packed: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"run.tif{packed}"
    path.write_bytes(PACK[packed](Stack().content))
    read(path)
    assert capfd.readouterr() == ("", "")
