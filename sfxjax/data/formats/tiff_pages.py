"""The images that a TIFF file lists, however the list ends: libraries take a list that is cut short for a file of one image.

Each image has a directory (IFD) that says where the next one's is.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from sfxjax.data.formats.compressed import open_plain
from sfxjax.data.frames import MOST_PIXELS
from sfxjax.errors import UserError

BIG_TIFF = (b"II+\x00", b"MM\x00+")
TIFF = (b"II*\x00", b"MM\x00*", *BIG_TIFF)
# Bytes of a compressed file once it is decompressed, images of a file, entries of a directory, and numbers of an entry.
MOST_UNPACKED, MOST_IMAGES, MOST_ENTRIES, MOST_NUMBERS = 2**30, 200_000, 4096, 2**20
# Images that are missing at the end are believed up to so many.
MOST_LOST = 100_000
_KIND, _IMAGE_COLUMNS, _IMAGE_ROWS, _BITS, _DESCRIPTION, _SAMPLES = 254, 256, 257, 258, 270, 277
_STARTS, _BYTE_COUNTS = (273, 324), (279, 325)
_WANTED = {_KIND, _IMAGE_COLUMNS, _IMAGE_ROWS, _BITS, _DESCRIPTION, _SAMPLES, *_STARTS, *_BYTE_COUNTS}
_SMALLER_OR_MASK = 0b101
_KINDS = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
Tags = dict[int, tuple[int, ...]]
CUT = "the file is cut short; fetch it again"


class Page(NamedTuple):
    """An image of a TIFF file.

    Attributes:
        at: its directory.
        next_at: where that says which directory is next.
        shape: (ss, fs).
        cut: the file ends before its pixels do.
    """

    at: int
    next_at: int
    shape: tuple[int, int]
    cut: bool


class Pages(NamedTuple):
    """The images of a file.

    Attributes:
        pages: those that the file lists, in order.
        big: whether it is a BigTIFF.
        lost: how many more there are that cannot be found, at least.
        why: why not.
        notes: what the user should be told.
    """

    pages: tuple[Page, ...]
    big: bool
    lost: int = 0
    why: str = ""
    notes: tuple[str, ...] = ()


def tiff_pages(path: Path) -> Pages:
    """List the images of a file.

    Raises:
        UserError: it lists none.
        OSError: it cannot be read.
    """
    status = path.stat()
    return _pages(path, status.st_size, status.st_mtime_ns, status.st_ino)


def open_page(path: Path, number: int) -> IO[bytes]:
    """Open a file such that it seems to hold one of its images alone.

    Raises:
        UserError: the image's pixels lie behind the end of the file, or are beyond belief.
    """
    found = tiff_pages(path)
    page = found.pages[number]
    if page.cut:
        raise UserError(CUT)
    if math.prod(page.shape) > MOST_PIXELS:
        raise UserError(
            f"an image of {page.shape[0]}x{page.shape[1]} pixels is beyond belief; is the file damaged?"
        )
    stream = _opened_tiff(path)
    order, wide = _order(stream), "Q" if found.big else "I"
    patches = {
        8 if found.big else 4: struct.pack(order + wide, page.at),
        page.next_at: struct.pack(order + wide, 0),
    }
    return io.BufferedReader(_Patched(stream, patches))


class _Patched(io.RawIOBase):
    """A file some of whose bytes are others."""

    def __init__(self, stream: IO[bytes], patches: Mapping[int, bytes]) -> None:
        self._stream, self._patches = stream, patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = 0) -> int:
        return self._stream.seek(place, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        place = self._stream.tell()
        content = bytearray(self._stream.read(len(buffer)))
        for at, patch in self._patches.items():
            first, last = max(at, place), min(at + len(patch), place + len(content))
            if first < last:
                content[first - place : last - place] = patch[first - at : last - at]
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


@lru_cache(maxsize=256)
def _pages(path: Path, *changed: int) -> Pages:
    """See `tiff_pages`; `changed` tells the file's versions apart."""
    pages: list[Page] = []
    places: dict[int, int] = {}
    first: Tags = {}
    notes, why, smaller = [], "", 0
    with _opened_tiff(path) as stream:
        size = stream.seek(0, io.SEEK_END)
        order = _order(stream)
        stream.seek(0)
        big = stream.read(4) in BIG_TIFF
        wide = order + ("Q" if big else "I")
        try:
            (at,) = _read(stream, wide, 8 if big else 4)
            while at and at not in places:
                if len(places) >= MOST_IMAGES:
                    raise ValueError
                places[at] = len(places)
                tags, next_at = _directory(stream, order, big, at, size)
                page = _page(tags, at, next_at, size)
                if tags.get(_KIND, (0,))[0] & _SMALLER_OR_MASK:
                    smaller += 1
                else:
                    pages.append(page)
                    first = first or tags
                (at,) = _read(stream, wide, next_at)
            if at:
                notes.append(
                    f"{path}: its list of images leads back to image {places[at] + 1}; each is taken once"
                )
        except EOFError:
            why = CUT
        except ValueError:
            why = "the list of images in the file is damaged; fetch it again"
    if not pages:
        raise UserError(f"{path}: {why or 'it lists no image'}")
    if smaller:
        notes.append(f"{path}: {smaller} images that it calls smaller copies or masks of others are left out")
    said = _images_said(first)
    lost = min(max(said - len(pages), 1), MOST_LOST) if why else 0
    if why:
        known = "" if said > len(pages) else "; how many images are missing is not known"
        why += known
        notes.append(f"{path}: after image {len(pages)} {why}")
    elif said > len(pages):
        why = f"the file says that it holds {said} images, and lists {len(pages)}"
        notes.append(f"{path}: {why}")
        # Where their pixels are there all the same, without directories, they are frames.
        whole = said * math.prod(pages[0].shape) * first.get(_BITS, (8,))[0] // 8
        lost = min(said - len(pages), MOST_LOST) if size >= whole else 0
    return Pages(tuple(pages), big, lost, why, tuple(notes))


def _images_said(tags: Tags) -> int:
    """Return how many images ImageJ or tifffile say there are in a file, by its first directory; 0 where nobody says it."""
    text = bytes(tags.get(_DESCRIPTION, ())).decode("latin-1").rstrip("\0 \n")
    counted = re.search(r"^images=(\d{1,9})\s*$", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    if counted:
        return int(counted[1])
    if not text.startswith('{"shape"'):
        return 0
    try:
        each = math.prod(tags.get(tag, (1,))[0] for tag in (_IMAGE_COLUMNS, _IMAGE_ROWS, _SAMPLES))
        return int(math.prod(map(int, json.loads(text)["shape"])) // each)
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, OverflowError):
        return 0


def _page(tags: Tags, at: int, next_at: int, size: int) -> Page:
    """Describe an image by its directory.

    Raises:
        ValueError: it is none.
    """
    height, width = tags.get(_IMAGE_ROWS, ()), tags.get(_IMAGE_COLUMNS, ())
    if not (len(height) == len(width) == 1 and height[0] > 0 and width[0] > 0):
        raise ValueError
    end = 0
    for start, length in zip(_STARTS, _BYTE_COUNTS, strict=True):
        starts = tags.get(start, ())
        lengths = tags.get(length, (0,) * len(starts))
        end = max([end, *(a + b for a, b in zip(starts, lengths, strict=False))])
    return Page(at, next_at, (height[0], width[0]), end > size)


def _directory(stream: IO[bytes], order: str, big: bool, at: int, size: int) -> tuple[Tags, int]:
    """Read what a directory says of its image, and where it says which is the next.

    Raises:
        EOFError: it lies behind the end of the file.
        ValueError: it is none.
    """
    (count,) = _read(stream, order + ("Q" if big else "H"), at)
    if not 0 < count <= MOST_ENTRIES:
        raise ValueError
    start, entry = at + (8 if big else 2), order + ("HHQ8s" if big else "HHI4s")
    inside = 8 if big else 4
    entries = _from(stream, start, struct.calcsize(entry) * count)
    if len(entries) < struct.calcsize(entry) * count:
        raise EOFError
    tags: Tags = {}
    for tag, kind, numbers, value in struct.iter_unpack(entry, entries):
        if tag not in _WANTED or kind not in _KINDS or not 0 < numbers <= MOST_NUMBERS:
            continue
        form = f"{order}{numbers}{_KINDS[kind]}"
        length = struct.calcsize(form)
        if length <= inside:
            tags[tag] = struct.unpack(form, value[:length])
            continue
        (place,) = struct.unpack(order + ("Q" if big else "I"), value)
        try:
            tags[tag] = _read(stream, form, place)
        except EOFError:
            # It is not known where its pixels are: behind the end of the file, as what would say it.
            tags[tag] = (size + 1,) if tag in (*_STARTS, *_BYTE_COUNTS) else ()
    return tags, start + len(entries)


def _read(stream: IO[bytes], form: str, place: int) -> tuple[int, ...]:
    wanted = struct.calcsize(form)
    content = _from(stream, place, wanted)
    if len(content) < wanted:
        raise EOFError
    return struct.unpack(form, content)


def _from(stream: IO[bytes], place: int, length: int) -> bytes:
    try:
        stream.seek(place)
    except (OSError, OverflowError):
        # No file of this system is so long.
        return b""
    return stream.read(length)


def _order(stream: IO[bytes]) -> str:
    stream.seek(0)
    return "<" if stream.read(2) == b"II" else ">"


def _opened_tiff(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        if stream.read(4) in TIFF:
            return path.open("rb")
    status = path.stat()
    return io.BytesIO(_unpacked(path, status.st_size, status.st_mtime_ns, status.st_ino))


@lru_cache(maxsize=1)
def _unpacked(path: Path, *changed: int) -> bytes:
    """Decompress a file, one that is cut short as far as it goes; `changed` tells its versions apart."""
    content = bytearray()
    try:
        with open_plain(path) as stream:
            # Unlike `read` this gives what comes before an end too soon.
            while piece := stream.read1(2**20):  # type: ignore[attr-defined]
                content += piece
                if len(content) > MOST_UNPACKED:
                    raise UserError(
                        f"{path}: decompresses to more than {MOST_UNPACKED / 1e9:.1f} GB; decompress it first"
                    )
    except (EOFError, OSError, zlib.error):
        # What is missing is missed where it is listed.
        pass
    return bytes(content)
