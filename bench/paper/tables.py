"""The paper's tables with ours beside them, cell by cell: pure functions from runs to tables.

A cell that no run fills says "not run".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sfxjax.data.splits import PAPER_FRAMES, split
from sfxjax.training.published import (
    SETS,
    TABLE_6,
    TABLE_TITLES,
    FrameRange,
    PublishedCell,
    cells,
    frame_range,
)

from .methods import METHODS, Method, mean_of, published_mean
from .plans import AS_PUBLISHED
from .runs import METRICS, Mean, TrainedRun, cell_record, figure_of, labelled_set, runs_of, spread
from .table_layout import NOT_RUN, PAGE_WORDS, Table

# Of three methods, measured apart.
MEASURED_TABLE = 6
# Frames on which all rows of a table, and of other tables, can be compared: 1601-2000 of any set were never trained or
# validated on by any network; of a set whose labels were not used at all, all frames.
SAME_FRAMES: dict[int, FrameRange] = {2: "last", 3: "last", 4: "last", 5: "last", 7: "all"}

_NOTES: dict[str, Any] = PAGE_WORDS["notes"]


def table_rows(number: int, runs: Sequence[TrainedRun]) -> list[dict[str, Any]]:
    """Put our figures beside the published cells of Table 1, 2, 3, 4, 5 or 7.

    Returns:
        A row for each cell, JSON-ready: the fields of the cell, and records of our runs, one a seed, None where it was not run:
        `ours` and, by their titles, those of other methods on the frames the paper tested; `same_frames`, ours on the frames
        of `SAME_FRAMES`.

    Raises:
        UserError: there is no such table.
    """
    rows = []
    for cell in cells(number):
        like = {"variant": AS_PUBLISHED, "source": cell.source}
        ours = runs_of(runs, method=cell.method, split=cell.split, target=cell.target, **like)
        # The spot counter whose threshold was chosen on the labels that the cell's method may use for validation.
        labelled = labelled_set(cell.method, cell.source, cell.target)
        counter = runs_of(runs, method="spot_counter", split=cell.split, source=labelled)
        shown = {"ours": (ours, cell.frames), "same_frames": (ours, SAME_FRAMES.get(number))}
        shown["spot counter"] = counter, cell.frames
        if cell.method == "dann":
            shown["source-only CNN"] = runs_of(runs, method="supervised", split="full", **like), cell.frames
        records = {
            title: [cell_record(run, cell.tested, frames) for run in some if frames] or None
            for title, (some, frames) in shown.items()
        }
        rows.append(cell._asdict() | {"published": cell.published._asdict()} | records)
    return rows


def paper_table(number: int, runs: Sequence[TrainedRun]) -> Table:
    """Lay Table 1, 2, 3, 4, 5 or 7 of the paper out, ours beside the published figures.

    Raises:
        UserError: there is no such table.
    """
    frames = len(runs[0].scores[SETS[0]]) if runs else PAPER_FRAMES
    shown = {title: title for title in ("spot counter", *["source-only CNN"] * (number == 5))}
    if number in SAME_FRAMES:
        shown = {"same_frames": f"ours, frames {_span(frame_range(SAME_FRAMES[number], frames))}"} | shown
    columns = ["trained on", "tested on, frames", "paper: recall / misses", "balanced", "ours", "balanced"]
    columns += ["seeds", *(text for title in shown.values() for text in (title, "balanced"))]

    def line(rows: Sequence[dict[str, Any]]) -> list[str]:
        recall, misses = np.mean([list(row["published"].values()) for row in rows], axis=0)
        paper = [f"{recall:.2f} / {misses:.2f}", f"{(recall + misses) / 2:.2f}"]
        seeds = str(len(rows[0]["ours"])) if len(rows) == 1 and rows[0]["ours"] else ""
        others = [text for title in shown for text in _rate_columns([row[title] for row in rows])]
        return [*paper, *_rate_columns([row["ours"] for row in rows]), seeds, *others]

    lines = []
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell, row in zip(cells(number), table_rows(number, runs), strict=True):
        span = _span(frame_range(cell.frames, frames))
        lines.append([_trained_on(cell), f"{cell.tested}, {span}", *line([row])])
        groups.setdefault(_group_of(cell), []).append(row)
    lines += [[f"mean, {name}", "", *line(members)] for name, members in groups.items()]
    heading = f"Table {number}. {TABLE_TITLES[number]}"
    return Table(f"table{number}", heading, columns, lines, _notes(number, frames), len(groups))


def _trained_on(cell: PublishedCell) -> str:
    further = {3: f", then {cell.target}", 5: f" -> {cell.target}", 7: f", {_group_of(cell)}"}
    return cell.source + further.get(cell.table, "")


def _group_of(cell: PublishedCell) -> str:
    """Say what rows of a table have in common, that are summed up together."""
    groups = {
        1: "own set" if cell.tested == cell.source else "other sets",
        5: "on the target" if cell.tested == cell.target else "on the source",
        7: "1D" if cell.method == "reduced" else "2D",
    }
    return groups.get(cell.table, "all rows")


def _span(frames: range) -> str:
    return f"{frames.start + 1}-{frames.stop}"


def _rate_columns(cells: Sequence[list[dict[str, Any]] | None]) -> list[str]:
    """Write recall and accuracy on misses, and the balanced accuracy, of a cell's records or as the means of several cells.

    Of a cell the balanced accuracy has its deviation over seeds or, of one seed, its interval; means tell how many cells of
    all were run.
    """
    known = [records for records in cells if records]
    if not known:
        return [NOT_RUN, NOT_RUN]
    of_cells = [[seed_spread(records, metric) for records in known] for metric in METRICS]
    rates = ["no frames" if (mean := spread(found)) is None else f"{mean:.1f}" for found in of_cells]
    note = "" if len(known) == len(cells) else f" ({len(known)} of {len(cells)})"
    if len(cells) == 1 and of_cells[-1][0] is not None:
        rates[-1], note = str(of_cells[-1][0]), interval(known[0])
    return [f"{rates[0]} / {rates[1]}", f"{rates[2]}{note}"]


def seed_spread(records: Sequence[dict[str, Any]], metric: str) -> Mean | None:
    """Return mean and deviation over the seeds of a cell, per cent."""
    return spread([figure_of(record, metric) for record in records])


def interval(records: Sequence[dict[str, Any]]) -> str:
    """Write the 95 % interval of the balanced accuracy of a cell's only seed; of several, whose spread tells more, nothing."""
    rate = records[0]["balanced_accuracy"]
    return "" if len(records) > 1 else f" ({rate['low']:.1f}-{rate['high']:.1f})"


def _notes(number: int, frames: int) -> list[str]:
    """Fill the ranges of frames into the notes below a table of `paper_table`."""
    full, few = split("full", frames), split("few", frames)
    spans = {"many": _span(full.validation), "few": _span(few.validation), "last": _span(full.test)}
    notes = [_NOTES["rates"], _NOTES["counter"].format(chosen=_NOTES["chosen"][f"table{number}"])]
    if number in SAME_FRAMES:
        notes.append(_NOTES[f"{SAME_FRAMES[number]}_frames"])
    if frames != PAPER_FRAMES:
        notes.append(_NOTES["shorter"])
    return [note.format(frames=frames, **spans) for note in notes]


def summary_table(runs: Sequence[TrainedRun]) -> Table:
    """Lay every method out beside the paper's: recall, accuracy on misses and balanced accuracy, means over sets and pairs."""

    def texts(method: Method) -> list[str]:
        means = [mean_of(runs, method, metric) for metric in METRICS]
        published = [published_mean(method, metric) for metric in METRICS]
        ours = [NOT_RUN if mean is None else str(mean) for mean in means]
        return ours + ["" if value is None else f"{value:.1f}" for value in published]

    columns = ["recall", "misses", "balanced", "paper: recall", "misses", "balanced"]
    return _table_of_methods("summary", "All methods", columns, texts)


def recall_table(runs: Sequence[TrainedRun]) -> Table:
    """Lay out the accuracy on misses at recalls of 90, 95 and 99 % of every method, on the same frames of every set."""
    shown = {
        f"{title} at {recall} %": (f"miss_accuracy_at_{recall}", sets, "{:.1f}")
        for title, sets in {**{name: (name,) for name in SETS}, "mean": SETS}.items()
        for recall in ("90", "95", "99")
    }
    shown["mean area under ROC"] = ("area_under_curve", SETS, "{:.4f}")

    def texts(method: Method) -> list[str]:
        means = [(mean_of(runs, method, metric, sets), layout) for metric, sets, layout in shown.values()]
        return [NOT_RUN if mean is None else layout.format(mean) for mean, layout in means]

    return _table_of_methods("recalls", "Accuracy on misses (%) at fixed recall", list(shown), texts)


def _table_of_methods(
    key: str, heading: str, columns: Sequence[str], texts: Callable[[Method], list[str]]
) -> Table:
    rows = [[method.title, method.labels, *texts(method)] for method in METHODS.values()]
    return Table(key, heading, ["method", "labels of the tested set", *columns], rows, list(_NOTES[key]))


def measured_table(measured: Mapping[str, Any]) -> Table:
    """Lay Table 6 out: the paper's words, and what was measured.

    Args:
        measured: `transfer`, `reduced` and `dann`, each with any of `labels` (of the tested set), `preprocessing_seconds`,
            `training_seconds`, `recall` (per cent), `peak_memory_mib` and `frames_per_second`; `device`, words; `notes`, a
            list of lines.
    """
    rows = []
    for words, row in PAGE_WORDS["measured"].items():
        rows.append([f"{words} ({row['unit']})"])
        for method, judged in TABLE_6[words]._asdict().items():
            value = measured.get(method, {}).get(row["key"])
            rows[-1] += [judged, NOT_RUN if value is None else row["layout"].format(value)]
    titles = ("transfer", "RWD and 1D CNN", "DANN")
    columns = ["", *(text for title in titles for text in (f"{title}: paper", "measured"))]
    notes = [f"Measured on {measured['device']}."] if "device" in measured else []
    heading = f"Table {MEASURED_TABLE}. {TABLE_TITLES[MEASURED_TABLE]}"
    return Table("table6", heading, columns, rows, [*notes, *measured.get("notes", ())])
