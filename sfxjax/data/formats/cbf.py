"""Crystallographic Binary Files with one or more panels, and the compressions that fabio does not read.

CBF stores images as binary sections of a CIF text. CBFlib's `x-CBF_PACKED` scheme stores each pixel as a
difference from what its neighbours predict, in chunks of 1 to 128 pixels of one bit width (CBFlib manual,
section 3.3.2; J. P. Abrahams' scheme). `x-CBF_BYTE_OFFSET` stores differences in 1, 2, 4 or 8 bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import mmap
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfxjax.data.formats.compressed import open_plain
from sfxjax.errors import UserError, explain_os_error

MAGIC = b"###CBF"

# Of a decompressed file.
MOST_BYTES = 2**29
_BOUNDARY = b"--CIF-BINARY-FORMAT-SECTION--"
_BINARY_START = b"\x0c\x1a\x04\xd5"
_PACKED_BITS = (0, 4, 5, 6, 7, 8, 16, 65)
_PACKED_2_BITS = (0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 65)
_MOST_BYTES = 2**31
_ELEMENT_TYPES = {
    "unsigned 8-bit integer": "u1",
    "signed 8-bit integer": "i1",
    "unsigned 16-bit integer": "u2",
    "signed 16-bit integer": "i2",
    "unsigned 32-bit integer": "u4",
    "signed 32-bit integer": "i4",
    "signed 32-bit real ieee": "f4",
    "signed 64-bit real ieee": "f8",
}


@dataclass(frozen=True)
class BinarySection:
    """One image in a CBF file.

    Attributes:
        shape: (ss, fs) of one plane, pixels.
        dtype: of the pixels.
        compression: such as `x-cbf_packed`, in small letters; empty: none.
        flat: every pixel is predicted by the one before it, not by four neighbours.
        start: of the compressed bytes in the file.
        size: how many there are.
        md5: their MD5 sum in base64, empty if the file does not give it.
        planes: how many planes of (ss, fs) it has, one after the other.
        correlated: pixels are predicted by the plane before theirs, too.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    compression: str
    flat: bool
    start: int
    size: int
    md5: str = ""
    planes: int = 1
    correlated: bool = True


@dataclass(frozen=True)
class CbfFile:
    """A CBF file: its text without the images, and where these lie."""

    path: Path
    text: str
    sections: tuple[BinarySection, ...]

    def read(self, number: int = 0) -> np.ndarray:
        """Return an image, (planes, ss, fs).

        Raises:
            UserError: it is damaged, or compressed in a way that is not read.
        """
        section = self.sections[number]
        try:
            with open_plain(self.path) as stream:
                stream.seek(section.start)
                content = stream.read(section.size)
        except (EOFError, zlib.error) as error:
            raise UserError(f"{self.path}: damaged or cut short ({error}); fetch it again") from error
        if len(content) < section.size:
            raise UserError(f"{self.path}: the file is cut short; fetch it again")
        if section.md5 and base64.b64encode(hashlib.md5(content).digest()).decode() != section.md5:
            raise UserError(f"{self.path}: image {number} is damaged (its checksum is wrong)")
        try:
            return _decompress(content, section)
        except (ValueError, IndexError, OverflowError) as error:
            raise UserError(f"{self.path}: image {number} is damaged ({error})") from error


def open_cbf(path: Path) -> CbfFile:
    """Read the text of a CBF file and find its images.

    Raises:
        UserError: it is missing or damaged, or holds no image.
    """
    try:
        with open_plain(path) as stream:
            if stream.seekable() and isinstance(stream, io.BufferedReader):
                # Mapped, because the images are only jumped over here.
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    return _parse(path, content)
            plain = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(explain_os_error(error, path) or f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: the file is empty") from error
    if len(plain) > MOST_BYTES:
        raise UserError(
            f"{path}: an image of more than {MOST_BYTES} bytes is beyond belief; is the file damaged?"
        )
    return _parse(path, plain)


def _parse(path: Path, content: mmap.mmap | bytes) -> CbfFile:
    if content[: len(MAGIC)] != MAGIC:
        raise UserError(f"{path}: not a CBF file")
    sections, text, end = [], [], 0
    while (found := content.find(_BOUNDARY + b"\r\n", end)) >= 0 or (
        found := content.find(_BOUNDARY + b"\n", end)
    ) >= 0:
        begin = content.find(_BINARY_START, found)
        if begin < 0:
            raise UserError(f"{path}: the file is cut short; fetch it again")
        text.append(content[end:found])
        section = _section(path, content[found + len(_BOUNDARY) : begin], begin + len(_BINARY_START))
        sections.append(section)
        end = section.start + section.size
        closing = content.find(_BOUNDARY + b"--", end)
        end = closing + len(_BOUNDARY) + 2 if closing >= 0 else end
    text.append(content[end:])
    if not sections:
        raise UserError(f"{path}: no image in this CBF file")
    return CbfFile(path, b"".join(text).decode("latin-1"), tuple(sections))


def _section(path: Path, header: bytes, start: int) -> BinarySection:
    lines = header.decode("latin-1")
    fields = {key.lower(): value.strip() for key, value in re.findall(r"^([\w-]+):([^\n]*)$", lines, re.M)}
    conversions = re.search(r'conversions\s*=\s*"([^"]*)"', lines, re.I)
    try:
        kind = fields.get("x-binary-element-type", '"signed 32-bit integer"').strip('" ').lower()
        order = fields.get("x-binary-element-byte-order", "LITTLE_ENDIAN").upper()
        if kind not in _ELEMENT_TYPES or order not in ("LITTLE_ENDIAN", "BIG_ENDIAN"):
            raise UserError(f"{path}: pixels of type {kind}, {order} are not read")
        fast = int(fields["x-binary-size-fastest-dimension"])
        slow = int(fields["x-binary-size-second-dimension"])
        planes = int(fields.get("x-binary-size-third-dimension", 1)) or 1
        size = int(fields["x-binary-size"])
        elements = int(fields.get("x-binary-number-of-elements", fast * slow * planes))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: the header of its image is damaged ({error})") from error
    pixels = fast * slow * planes
    if not (0 < fast <= 2**20 and 0 < slow <= 2**20 and 0 < planes <= 2**10 and elements == pixels <= 2**27):
        raise UserError(
            f"{path}: an image of {planes}x{slow}x{fast} pixels is beyond belief; is the file damaged?"
        )
    if not 0 <= size <= _MOST_BYTES:
        raise UserError(f"{path}: an image of {size} bytes is beyond belief; is the file damaged?")
    dtype = np.dtype(("<" if order == "LITTLE_ENDIAN" else ">") + _ELEMENT_TYPES[kind])
    compression = conversions[1].lower() if conversions else ""
    flat, correlated = '"flat' in lines.lower(), "uncorrelated_sections" not in lines.lower()
    md5 = fields.get("content-md5", "")
    return BinarySection((slow, fast), dtype, compression, flat, start, size, md5, planes, correlated)


def _decompress(content: bytes, section: BinarySection) -> np.ndarray:
    shape = (section.planes, *section.shape)
    count = section.planes * section.shape[0] * section.shape[1]
    if section.compression in ("", "none"):
        return np.frombuffer(content, section.dtype, count).reshape(shape)
    if section.compression == "x-cbf_byte_offset":
        return _byte_offset(content, count).astype(section.dtype.newbyteorder("=")).reshape(shape)
    if section.compression in ("x-cbf_packed", "x-cbf_packed_v2"):
        values = _packed(content, section, count, section.compression == "x-cbf_packed_v2")
        return values.reshape(shape)
    raise UserError(f"images compressed by {section.compression} are not read; convert the file")


def _byte_offset(content: bytes, count: int) -> np.ndarray:
    """Undo `x-CBF_BYTE_OFFSET`: 1 byte a difference, or -128 and 2 bytes, or -32768 after that and 4, or 8."""
    raw = np.frombuffer(content, np.int8)
    differences = np.empty(count, np.int64)
    done = place = 0
    while done < count:
        # One stretch of single bytes after the other; the escapes are few.
        ahead = raw[place : place + count - done]
        escapes = np.flatnonzero(ahead == -128)
        plain = int(escapes[0]) if escapes.size else len(ahead)
        differences[done : done + plain] = ahead[:plain]
        done, place = done + plain, place + plain
        if done == count:
            break
        width, place = 2, place + 1
        while True:
            piece = content[place : place + width]
            if len(piece) < width:
                raise ValueError("it ends early")
            value = int.from_bytes(piece, "little", signed=True)
            place += width
            if width == 8 or value != -(1 << (8 * width - 1)):
                break
            width *= 2
        differences[done] = value
        done += 1
    return np.cumsum(differences)


def _packed(content: bytes, section: BinarySection, count: int, second: bool) -> np.ndarray:
    widths, log_bits = (_PACKED_2_BITS, 4) if second else (_PACKED_BITS, 3)
    # The widest offsets have one bit more than 64, unless predictions wrap at the pixel's own size.
    widest = widths[-1] if section.flat else 8 * section.dtype.itemsize
    widths = (*widths[:-1], widest)
    if int.from_bytes(content[:8], "little") != count:
        raise ValueError("its number of pixels differs from the header's")
    # After the count: the smallest and the largest element, and a reserved number.
    data = np.frombuffer(content[32:] + bytes(16), np.uint8)
    starts, lengths, bits = _chunks(data, count, widths, log_bits)
    lengths[-1] -= int(lengths.sum()) - count
    width = np.repeat(bits, lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = np.repeat(starts, lengths) + (np.arange(count) - first) * width
    byte, shift = place >> 3, place & 7
    low, middle, high = (data[byte + k].astype(np.int64) << 8 * k for k in range(3))
    word = low | middle | high
    small = np.minimum(width, 16)
    offsets = (word >> shift) & ((1 << small) - 1)
    offsets -= ((offsets >> np.maximum(small - 1, 0)) & 1) << small
    offsets[width == 0] = 0
    for wide in np.flatnonzero(width > 16):
        piece = int.from_bytes(data[byte[wide] : byte[wide] + 10].tobytes(), "little") >> int(shift[wide])
        kept = min(int(width[wide]), 64)
        # A 65th bit repeats the sign; of the others only the pixel's own matter.
        piece &= (1 << kept) - 1
        offsets[wide] = piece - ((piece >> (kept - 1)) << kept)
    unsigned = np.dtype(f"u{section.dtype.itemsize}")
    if section.flat or section.shape[1] == 1:
        values = np.cumsum(offsets)
    else:
        values, before = np.empty((section.planes, count // section.planes), np.int64), None
        for plane, own in enumerate(offsets.reshape(section.planes, -1)):
            values[plane] = _predicted(own, section.shape, section.dtype.itemsize, before, section.correlated)
            before = values[plane]
        values = values.ravel()
    return values.astype(np.int64).astype(unsigned).view(section.dtype.newbyteorder("="))


def _chunks(
    data: np.ndarray, count: int, widths: tuple[int, ...], log_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the chunks: bit at which each one's offsets start, its number of pixels, bits a pixel."""
    content = data.tobytes()
    end = 8 * (len(content) - 16)
    head, mask = 3 + log_bits, (1 << log_bits) - 1
    starts, lengths, bits = [], [], []
    place = done = 0
    while done < count:
        if place + head > end:
            raise ValueError("it ends early")
        at = place >> 3
        code = (content[at] | content[at + 1] << 8) >> (place & 7)
        length, width = 1 << (code & 7), widths[(code >> 3) & mask]
        place += head
        starts.append(place)
        lengths.append(length)
        bits.append(width)
        place += min(length, count - done) * width
        done += length
    if place > end:
        raise ValueError("it ends early")
    return np.array(starts, np.int64), np.array(lengths, np.int64), np.array(bits, np.int64)


def _predicted(
    offsets: np.ndarray,
    shape: tuple[int, int],
    itemsize: int,
    before: np.ndarray | None = None,
    correlated: bool = True,
) -> np.ndarray:
    """Add to each offset what the pixel's neighbours predict.

    A pixel's prediction is the rounded mean of the pixels left of it, above it, and above to either side; in the
    first column of the two above it, in the last column of the left one and the one above, in the first row the
    left one alone. Where there is a plane before, as many of its pixels join: those at the same places, but the
    pixel's own place instead of the left one; in the first row its first pixel predicts this plane's first one.
    A pixel at (row, column) needs only pixels of a smaller column + 2 row, so all pixels with the same value of
    that are computed together; in memory they are equally spaced.

    Args:
        offsets: int64 (pixels,).
        shape: (ss, fs), at least 2 pixels fast.
        itemsize: of the pixels in bytes; sums wrap as integers of that size do.
        before: the plane before, if there is one.
        correlated: the plane before predicts more than the first pixel.
    """
    slow, fast = shape
    signed = np.dtype(f"i{itemsize}")
    values = offsets.copy()
    if before is not None:
        values[0] += before[0]
    values[:fast] = np.cumsum(values[:fast])
    twin = before if correlated else None

    def add(piece: slice, shifts: tuple[int, ...]) -> None:
        """Add to the pixels of a piece the mean of those at these shifts from them."""

        def near(array: np.ndarray, shift: int) -> np.ndarray:
            return array[piece.start + shift : piece.stop + shift : piece.step]

        terms = [near(values, shift) for shift in shifts]
        if twin is not None:
            terms += [near(twin, 0 if shift == -1 else shift) for shift in shifts]
        total = np.sum(terms, axis=0).astype(signed).astype(np.int64)
        mean = (total + len(terms) // 2) >> (len(terms).bit_length() - 1)
        values[piece] = (values[piece] + mean).astype(signed)

    step = fast - 2 if fast > 2 else 1
    for front in range(2, fast + 2 * slow - 2):
        if front % 2 == 0 and front // 2 < slow:
            at = front // 2 * fast
            add(slice(at, at + 1), (-fast, 1 - fast))
        # Rows whose column lies between the first and the last.
        low = max(1, (front - fast + 3) // 2)
        high = min(slow - 1, (front - 1) // 2)
        if low <= high and fast > 2:
            begin, end = low * fast + front - 2 * low, high * fast + front - 2 * high + 1
            add(slice(begin, end, step), (-1, -fast - 1, -fast, 1 - fast))
        if front >= fast + 1 and (front - fast + 1) % 2 == 0 and (front - fast + 1) // 2 < slow:
            at = (front - fast + 1) // 2 * fast + fast - 1
            add(slice(at, at + 1), (-1, -fast))
    return values
