"""Damages inputs of any kind, each by a seed: bytes, numbers and lines of text, values of JSON, and what HDF5 files hold."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator

ODD_NUMBERS = (
    *("-1", "0", "1", "-0", "2147483648", "-2147483649", "4294967296", "18446744073709551616", "9" * 400),
    *("1e999", "-1e308", "1e-320", "nan", "inf", "-inf", "0x7f", "1_000", "٣", "one", "", "1.5", "1e400000"),
)
ODD_TEXTS = (
    *b"\0 \r \xff\xfe \xef\xbb\xbf \x1b[2J = % / :/ // * # ; \" '".split(b" "),
    *("\u2028 \u0085".encode(), b"  ", b"[" * 100_000, b'{"a":' * 100_000, b"x" * 1_000_000, b"\n" * 10_000),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", "\x1b]0;name\x07", -1, 0, 1, 2**31, 2**63, 10**399, 1.5, -0.5, 1e308),
    *([], {}, [1], ["x"], [[]] * 3, {"a": 1}, [10**9] * 3, ["a"] * 20_000, "y" * 100_000),
    *(float("nan"), float("inf"), 1e-320),
)


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Flip bits, overwrite, cut off, cut out, double, move in or empty a piece."""
    data = bytearray(content)
    length = max(len(data), 1)
    # What describes the rest stands at the beginning as a rule.
    reach = length if random.random() < 0.4 else min(length, 4096)
    place = int(random.integers(0, reach))
    piece = int(min(length, 2 ** random.integers(0, 14)))
    kind = random.integers(0, 8)
    if kind == 0:
        for _ in range(random.integers(1, 30)):
            if data:
                data[random.integers(0, min(reach, len(data)))] ^= 1 << random.integers(0, 8)
    elif kind == 1:
        data[place : place + piece] = random.bytes(piece)
    elif kind == 2:
        del data[int(random.integers(0, length)) :]
    elif kind == 3:
        del data[place : place + piece]
    elif kind == 4:
        data[place:place] = data[place : place + piece]
    elif kind == 5:
        data[place:place] = random.bytes(piece)
    elif kind == 6:
        data[place : place + piece] = bytes(min(piece, len(data) - place))
    else:
        data[place : place + 8] = random.choice([b"\xff" * 8, b"\x7f" * 8, bytes(8), b"\x80" + bytes(7)])
    return bytes(data)


def damage_text(content: bytes, random: Random) -> bytes:
    """Change numbers, lines and characters of a text, or its bytes."""
    kind = random.integers(0, 8)
    lines = content.split(b"\n")
    line = int(random.integers(0, len(lines)))
    if kind < 3:
        numbers = list(re.finditer(rb"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", content))
        for _ in range(random.integers(1, 3)):
            if numbers:
                found = numbers[random.integers(0, len(numbers))]
                odd = str(random.choice(ODD_NUMBERS)).encode()
                content = content.replace(found[0], odd, 1 if random.random() < 0.8 else -1)
        return content
    if kind == 3:
        del lines[line]
    elif kind == 4:
        lines[line:line] = [lines[random.integers(0, len(lines))]] * int(random.integers(1, 40))
    elif kind == 5:
        odd = ODD_TEXTS[random.integers(0, len(ODD_TEXTS))]
        place = int(random.integers(0, len(lines[line]) + 1))
        lines[line] = lines[line][:place] + odd + lines[line][place:]
    elif kind == 6:
        random.shuffle(lines)  # type: ignore[arg-type]
    else:
        return damage_bytes(content, random)
    return b"\n".join(lines)


def damage_packed(content: bytes, random: Random) -> bytes:
    """Damage a compressed file, or what it holds."""
    opened, pack = (
        (gzip.decompress, gzip.compress) if content[:2] == b"\x1f\x8b" else (bz2.decompress, bz2.compress)
    )
    try:
        plain = opened(content)
    except (OSError, EOFError, ValueError, zlib.error):
        return damage_bytes(content, random)
    return damage_bytes(content, random) if random.random() < 0.5 else pack(damage_text(plain, random))


def damage_json(content: bytes, random: Random) -> bytes:
    """Change a value of a JSON file, take a key away, nest deeply, or damage its text."""
    kind = random.integers(0, 6)
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        kind = 0
    if kind == 0 or not isinstance(tree, dict):
        return damage_text(content, random)
    if kind == 1:
        deep = b"[" * 20_000 + b"]" * 20_000
        mark = json.dumps(changed(tree, "MARK", random)).encode()
        return mark.replace(b'"MARK"', deep, 1)
    if kind == 2:
        mark = json.dumps(changed(tree, "MARK", random))
        return mark.replace('"MARK"', str(random.choice(ODD_NUMBERS)) or "0", 1).encode()
    odd = ODD_VALUES[random.integers(0, len(ODD_VALUES))]
    return json.dumps(odd if random.random() < 0.03 else changed(tree, odd, random, kind == 3)).encode()


def changed(tree: Any, value: Any, random: Random, gone: bool = False) -> Any:
    """Return JSON with one value replaced, or gone; values of every depth are as likely."""
    tree = json.loads(json.dumps(tree))
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in node.keys() if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    visit(tree)
    node, key = places[random.integers(0, len(places))]
    if gone:
        del node[key]
    else:
        node[key] = value
    return tree


def damage_npz(content: bytes, random: Random) -> bytes:
    """Damage a file of NumPy arrays: its bytes, or the heading that claims a shape."""
    header = re.search(rb"'shape': \(([^)]*)\)", content)
    if header and random.random() < 0.5:
        odd = str(random.choice([*ODD_NUMBERS[:9], "48, 48", "99999999, 99999999"])).encode()
        return (
            content[: header.start(1)]
            + odd[: len(header[1])].ljust(len(header[1]))
            + content[header.end(1) :]
        )
    return damage_bytes(content, random)


def damage_folder(folder: Path, random: Random) -> None:
    """Damage a trained model's folder: its description, or one of its files of weights, with or without its checksum."""
    description = folder / "model.json"
    if random.random() < 0.6:
        description.write_bytes(damage_json(description.read_bytes(), random))
        return
    files = sorted(path for path in (folder / "weights").rglob("*") if path.is_file())
    chosen = files[random.integers(0, len(files))]
    if random.random() < 0.2:
        chosen.unlink()
    else:
        chosen.write_bytes(damage_bytes(chosen.read_bytes(), random))
    if random.random() < 0.7:
        # As whoever means harm would.
        tree = json.loads(description.read_text())
        tree["sha256"] = {
            path.relative_to(folder / "weights").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.exists()
        }
        description.write_text(json.dumps(tree))


Damage = Callable[[Path, Random], None]


def in_place(damage: Callable[[bytes, Random], bytes]) -> Damage:
    """Return what damages a file where it lies, once or twice."""

    def damage_file(path: Path, random: Random) -> None:
        for _ in range(random.integers(1, 3)):
            path.write_bytes(damage(path.read_bytes(), random))

    return damage_file


def write_damaged(original: Path, target: Path, damage: Damage, random: Random) -> None:
    """Write a damaged copy of a file or folder; rarely there is no file at all."""
    odd = 1.0 if original.is_dir() else random.random()
    if odd < 0.01:
        target.mkdir()
    elif odd < 0.02:
        target.symlink_to("nowhere")
    elif odd < 0.03:
        target.touch()
    else:
        (shutil.copytree if original.is_dir() else shutil.copy)(original, target)  # type: ignore[operator]
        damage(target, random)
