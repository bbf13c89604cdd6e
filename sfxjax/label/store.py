"""Labels on disk: one line of JSON a label, appended and flushed at once, a file for each labeller."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.labels import LABEL_WORDS, UNLABELLED
from sfxjax.errors import UserError
from sfxjax.files import atomic_write_text, open_unlinked
from sfxjax.json_files import parse_json, shown_value
from sfxjax.text import file_cell, table_row

SUFFIX = ".labels.jsonl"


@dataclass(frozen=True)
class Record:
    """One label, or the taking back of one.

    Attributes:
        file: of the frame.
        event: of the frame.
        label: HIT, MAYBE or MISS; None takes the last one back.
        comment: of the labeller.
        click: what tells a click that was sent twice.
        audit: whether the frame was drawn at random for the audit.
    """

    file: str
    event: str
    label: str | None
    comment: str = ""
    click: str = ""
    audit: bool = False


class LabelFile:
    """The labels of one person.

    Attributes:
        path: of the file.
        records: all of them, in order.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Open the file of a labeller, or make it.

        Raises:
            UserError: the name cannot be a file's, a link lies in its place, or a line is damaged.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
            raise UserError(f"{name!r} is no name of a labeller; use letters, digits, - and _")
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}{SUFFIX}"
        if self.path.is_symlink() or self.path.exists():
            os.close(open_unlinked(self.path))
        self.records = read_label_records(self.path) if self.path.exists() else []
        self._clicks = {record.click for record in self.records if record.click}
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            # The line that a kill cut short ends here, and is passed over when read.
            self._append(b"\n" if self.path.stat().st_size else b"")

    def add(self, record: Record) -> bool:
        """Append a record and wait until it is on the disk; False where its click is there already."""
        if record.click and record.click in self._clicks:
            return False
        self._append((json.dumps(record.__dict__) + "\n").encode())
        self.records.append(record)
        self._clicks.add(record.click)
        return True

    def _append(self, content: bytes) -> None:
        handle = open_unlinked(self.path)
        try:
            os.write(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)


def read_label_records(path: Path) -> list[Record]:
    """Read a file of labels; a line that a kill cut short is passed over.

    Raises:
        UserError: another line is damaged.
    """
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            record = Record(**_fields(line))
            if record.label is not None and record.label not in LABEL_WORDS:
                raise ValueError(record.label)
        except (TypeError, ValueError) as error:
            # A whole line ends with a brace: one that does not was cut short.
            if not line.endswith("}"):
                continue
            raise UserError(f"{path}, line {number}: no label ({error}); remove the line") from error
        records.append(record)
    return records


def _fields(line: str) -> dict[str, Any]:
    fields = parse_json(line)
    if not isinstance(fields, dict):
        raise ValueError(f"it is {shown_value(fields)}")
    kinds = {"label": (str, type(None)), "audit": (bool,)}
    for key, value in fields.items():
        if not isinstance(value, kinds.get(key, (str,))):
            raise ValueError(f"its {key} is {shown_value(value)}")
    return dict(fields)


def final(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    """Return the label of each frame by (file, event): the last one, unless it was taken back."""
    last: dict[tuple[str, str], Record] = {}
    for record in records:
        last.pop((record.file, record.event), None)
        if record.label is not None:
            last[record.file, record.event] = record
    return last


def label_array(records: Sequence[Record], frames: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the labels of frames, int8 (frames,), UNLABELLED where there is none."""
    known = final(records)
    words = [known[frame].label if frame in known else None for frame in frames]
    return np.array([UNLABELLED if word is None else LABEL_WORDS.index(word) for word in words], np.int8)


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Write labels as a CSV that every `labels=` reads."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("file", "event", "label", "comment"))
    for (file, event), record in final(records).items():
        writer.writerow(table_row((file_cell(file), event, record.label, record.comment)))
    atomic_write_text(path, stream.getvalue())


def agreement(folder: Path) -> dict[str, dict[str, float | int | None]]:
    """Return how far the labellers of a folder agree, by pair of names: `frames` both labelled and Cohen's `kappa`.

    Kappa is of hit, maybe and miss; None where one word alone was used.

    References:
        Cohen, Educ. Psychol. Meas. 20:37 (1960).
    """
    from sklearn.metrics import cohen_kappa_score

    known = {
        path.name.removesuffix(SUFFIX): final(read_label_records(path))
        for path in sorted(folder.glob(f"*{SUFFIX}"))
    }
    names = list(known)
    pairs: dict[str, dict[str, float | int | None]] = {}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = [frame for frame in known[first] if frame in known[second]]
            if both:
                words = [[known[name][frame].label for frame in both] for name in (first, second)]
                several = len({*words[0], *words[1]}) > 1
                kappa = float(cohen_kappa_score(*words)) if several else None
                pairs[f"{first}, {second}"] = {"frames": len(both), "kappa": kappa}
    return pairs
