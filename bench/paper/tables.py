"""The paper's tables with ours beside them, cell by cell: pure functions from runs to tables.

A cell that no run fills says "not run".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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

from .methods import MEASURED_METHODS, METHODS, Method, figure_of, mean_of, published_mean, rate_text
from .runs import AS_PUBLISHED, METRICS, Spread, TrainedRun, cell_records, labelled_set, runs_of, spread
from .table_layout import NOT_RUN, PAGE_WORDS, Table

# Frames on which all rows of a table, and of other tables, can be compared: 1601-2000 of any set were never trained or
# validated on by any network; of a set whose labels were not used at all, all frames.
SAME_FRAMES: dict[int, FrameRange] = {2: "last", 3: "last", 4: "last", 5: "last", 7: "all"}

_NOTES: dict[str, Any] = PAGE_WORDS["notes"]
_RECALLS = ("90", "95", "99")
_MEASURED = {
    "Size of labels": ("labels", "labels of the tested set", "{:.0f}"),
    "Pre-processing": ("preprocessing_seconds", "seconds", "{:.1f}"),
    "Train": ("training_seconds", "seconds", "{:.1f}"),
    "Recall": ("recall", "%", "{:.1f}"),
    "Resource consuming": ("peak_memory_mib", "MiB at most", "{:.0f}"),
    "Speed of prediction": ("frames_per_second", "frames/s", "{:,.0f}"),
}


def describe(simulated: bool, quick: bool) -> str:
    """Say what the data are: `simulated sets` or `CXIDB 76`, and whether the runs are quick ones."""
    what = "simulated sets" if simulated else "CXIDB 76"
    return f"{what}, quick: fewer frames or epochs" if quick else what


def describe_runs(runs: Sequence[TrainedRun]) -> str:
    """Say what data the runs are of, or that there are none."""
    if not runs:
        return NOT_RUN
    return describe(any(run.simulated for run in runs), any(run.quick for run in runs))


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
        shown = {
            "ours": (ours, cell.frames),
            "same_frames": (ours, SAME_FRAMES.get(number)),
            "spot counter": (counter, cell.frames),
        }
        if cell.method == "dann":
            shown["source-only CNN"] = runs_of(runs, method="supervised", split="full", **like), cell.frames
        records = {title: cell_records(some, cell.tested, of) or None for title, (some, of) in shown.items()}
        rows.append(cell._asdict() | {"published": cell.published._asdict()} | records)
    return rows


def paper_table(number: int, runs: Sequence[TrainedRun]) -> Table:
    """Lay Table 1, 2, 3, 4, 5 or 7 of the paper out, ours beside the published figures.

    Raises:
        UserError: there is no such table.
    """
    lengths = {name: len(scores) for run in runs for name, scores in run.scores.items()}
    frames = lengths[min(lengths)] if len(set(lengths.values())) == 1 else PAPER_FRAMES
    shown = {title: title for title in ("spot counter", *["source-only CNN"] * (number == 5))}
    if number in SAME_FRAMES:
        span = _span(frame_range(SAME_FRAMES[number], frames))
        shown = {"same_frames": f"ours, frames {span}"} | shown
    columns = [
        "trained on",
        "tested on, frames",
        "paper: recall / misses",
        "balanced",
        "ours",
        "balanced",
        "seeds",
    ]
    columns += [text for title in shown.values() for text in (title, "balanced")]

    def line(rows: Sequence[dict[str, Any]]) -> list[str]:
        recall, misses = np.mean([list(row["published"].values()) for row in rows], axis=0)
        paper = [f"{recall:.2f} / {misses:.2f}", f"{(recall + misses) / 2:.2f}"]
        seeds = str(len(rows[0]["ours"])) if len(rows) == 1 and rows[0]["ours"] else ""
        others = [text for title in shown for text in _rate_columns([row[title] for row in rows])]
        return [*paper, *_rate_columns([row["ours"] for row in rows]), seeds, *others]

    lines = []
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell, row in zip(cells(number), table_rows(number, runs), strict=True):
        span = _span(frame_range(cell.frames, lengths.get(cell.tested, frames)))
        lines.append([_trained_on(cell), f"{cell.tested}, {span}", *line([row])])
        groups.setdefault(_group_of(cell), []).append(row)
    lines += [[f"mean, {name}", "", *line(members)] for name, members in groups.items()]
    heading = f"Table {number}. {TABLE_TITLES[number]} ({describe_runs(runs)})"
    return Table(f"table{number}", heading, columns, lines, _notes(number, frames), len(groups))


def summary_table(runs: Sequence[TrainedRun]) -> Table:
    """Lay every method out beside the paper's: recall, accuracy on misses and balanced accuracy, means over sets and pairs."""

    def texts(method: Method) -> list[str]:
        means = [mean_of(runs, method, metric) for metric in METRICS]
        published = [published_mean(method, metric) for metric in METRICS]
        ours = [NOT_RUN if mean is None else str(mean) for mean in means]
        return ours + ["" if value is None else f"{value:.1f}" for value in published]

    columns = ["recall", "misses", "balanced", "paper: recall", "misses", "balanced"]
    return _table_of_methods("summary", f"All methods ({describe_runs(runs)})", columns, texts)


def recall_table(runs: Sequence[TrainedRun]) -> Table:
    """Lay out the accuracy on misses at recalls of 90, 95 and 99 % of every method, on the same frames of every set."""
    places = {**{name: (name,) for name in SETS}, "mean": SETS}
    shown = {
        f"{title} at {recall} %": (f"miss_accuracy_at_{recall}", sets, "{:.1f}")
        for title, sets in places.items()
        for recall in _RECALLS
    }
    shown["mean area under ROC"] = ("area_under_curve", SETS, "{:.4f}")

    def texts(method: Method) -> list[str]:
        means = [(mean_of(runs, method, metric, sets), layout) for metric, sets, layout in shown.values()]
        return [NOT_RUN if mean is None else layout.format(mean.value) for mean, layout in means]

    heading = f"Accuracy on misses (%) at fixed recall ({describe_runs(runs)})"
    return _table_of_methods("recalls", heading, list(shown), texts)


def measured_table(measured: Mapping[str, Any], runs: Sequence[TrainedRun] = ()) -> Table:
    """Lay Table 6 out: the paper's words, and what was measured.

    Args:
        measured: `transfer`, `reduced` and `dann`, each with any of `labels` (of the tested set), `preprocessing_seconds`,
            `training_seconds`, `recall` (per cent), `peak_memory_mib` and `frames_per_second`; `device`, words; `notes`, a
            list of lines; `simulated` and `quick`, bool.
        runs: recall and training time of methods not in `measured` are the means of their runs.
    """
    filled = {
        name: _from_runs(METHODS[name], runs) | dict(measured.get(name) or {}) for name in MEASURED_METHODS
    }
    rows = []
    for words, (key, unit, layout) in _MEASURED.items():
        rows.append([f"{words} ({unit})"])
        for found, judged in zip(filled.values(), TABLE_6[words], strict=True):
            value = found.get(key)
            rows[-1] += [judged, NOT_RUN if value is None else layout.format(value)]
    titles = ("transfer", "RWD and 1D CNN", "DANN")
    columns = ["", *(text for title in titles for text in (f"{title}: paper", "measured"))]
    notes = [f"Measured on {measured['device']}."] if measured.get("device") else []
    notes += measured.get("notes", ())
    about = describe_runs(runs)
    if "simulated" in measured:
        about = describe(measured["simulated"], measured.get("quick", False))
    return Table("table6", f"Table 6. {TABLE_TITLES[6]} ({about})", columns, rows, notes)


def _table_of_methods(
    key: str, heading: str, columns: Sequence[str], texts: Callable[[Method], list[str]]
) -> Table:
    rows = [[method.title, method.labels, *texts(method)] for method in METHODS.values()]
    return Table(key, heading, ["method", "labels of the tested set", *columns], rows, list(_NOTES[key]))


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
    recall, misses, balanced = (spread([seed_spread(r, m).mean for r in known]).mean for m in METRICS)
    deviation, note = None, "" if len(known) == len(cells) else f" ({len(known)} of {len(cells)})"
    if len(cells) == 1:
        deviation = seed_spread(known[0], "balanced_accuracy").deviation
        if bounds := interval(known[0], "balanced_accuracy"):
            note = f" ({bounds[0]:.1f}-{bounds[1]:.1f})"
    return [f"{rate_text(recall)} / {rate_text(misses)}", rate_text(balanced, deviation) + note]


def seed_spread(records: Iterable[dict[str, Any]], metric: str) -> Spread:
    """Return mean and deviation over the seeds of a cell, per cent."""
    return spread([figure_of(record, metric) for record in records])


def interval(records: Sequence[dict[str, Any]], metric: str) -> tuple[float, float] | None:
    """Give the 95 % interval of the only seed of a cell; None with several, whose spread tells more."""
    if len(records) != 1 or figure_of(records[0], metric) is None:
        return None
    return records[0][metric]["low"], records[0][metric]["high"]


def _from_runs(method: Method, runs: Sequence[TrainedRun]) -> dict[str, float]:
    recall = mean_of(runs, method, "recall")
    own = runs_of(runs, method=method.method, split=method.split, variant=AS_PUBLISHED)
    times = spread([run.record["training_seconds"] for run in own if "training_seconds" in run.record])
    found = {"recall": None if recall is None else recall.value, "training_seconds": times.mean}
    return {key: value for key, value in found.items() if value is not None}


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
