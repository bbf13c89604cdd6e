"""The paper's tables with ours beside them, cell by cell: pure functions from runs to tables, and their layout.

A cell that no run fills says "not run".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
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

from .methods import METHODS, PUBLISHED_RECALLS, Method, at_recall, mean_of, percent, published_mean
from .runs import (
    METRICS,
    Figures,
    Spread,
    TrainedRun,
    is_as_published,
    runs_of,
    source_only_runs,
    spot_counter_runs,
    test_figures,
)
from .table_layout import NOT_RUN, Row, Table

TABLES = (1, 2, 3, 4, 5, 7)

# Frames on which all rows of a table, and of other tables, can be compared: 1601-2000 of any set were never trained or
# validated on by any network; of a set whose labels were not used at all, all frames.
SAME_FRAMES: dict[int, FrameRange] = {2: "last", 3: "last", 4: "last", 5: "last", 7: "all"}

_MEASURED = {
    "Size of labels": ("labels", "labels of the tested set", "{:.0f}"),
    "Pre-processing": ("preprocessing_seconds", "seconds", "{:.1f}"),
    "Train": ("training_seconds", "seconds", "{:.1f}"),
    "Recall": ("recall", "%", "{:.1f}"),
    "Resource consuming": ("peak_memory_mib", "MiB at most", "{:.0f}"),
    "Speed of prediction": ("frames_per_second", "frames/s", "{:,.0f}"),
}


def describe(runs: Iterable[TrainedRun]) -> str:
    """Say what data the runs are of: `simulated sets`, `CXIDB 76` or `not run`, and whether they are quick ones."""
    runs = list(runs)
    if not runs:
        return NOT_RUN
    what = "simulated sets" if any(run.simulated for run in runs) else "CXIDB 76"
    return f"{what}, quick: fewer frames or epochs" if any(run.quick for run in runs) else what


def table_rows(number: int, runs: Sequence[TrainedRun]) -> list[Row]:
    """Put our figures beside the published cells of a table.

    Args:
        number: 1, 2, 3, 4, 5 or 7.
        runs: all there are.

    Raises:
        UserError: there is no such table.
    """
    rows = []
    for cell in cells(number):
        found = runs_of(runs, cell)
        others = {"spot counter": test_figures(spot_counter_runs(runs, cell), cell.tested, cell.frames)}
        if cell.method == "dann":
            others["source-only CNN"] = test_figures(source_only_runs(runs, cell), cell.tested, cell.frames)
        same = test_figures(found, cell.tested, SAME_FRAMES[number]) if number in SAME_FRAMES else None
        rows.append(Row(cell, test_figures(found, cell.tested, cell.frames), same, others))
    return rows


def row_record(row: Row) -> dict[str, Any]:
    """Turn a row into JSON: the cell, and for each column the records of its seeds, None where it was not run."""

    def records(found: Figures | None) -> list[dict[str, Any]] | None:
        return None if found is None else list(found.records)

    return row.cell._asdict() | {
        "published": row.cell.published._asdict(),
        "ours": records(row.ours),
        "same_frames": records(row.same_frames),
        **{title: records(found) for title, found in row.others.items()},
    }


def paper_table(number: int, runs: Sequence[TrainedRun], rows: Sequence[Row] | None = None) -> Table:
    """Lay a table of the paper out, ours beside the published figures.

    Args:
        number: 1, 2, 3, 4, 5 or 7.
        runs: all there are.
        rows: from `table_rows`, if they are at hand.

    Raises:
        UserError: there is no such table.
    """
    rows = table_rows(number, runs) if rows is None else list(rows)
    lengths = {name: len(scores) for run in runs for name, scores in run.scores.items()}
    frames = lengths[min(lengths)] if len(set(lengths.values())) == 1 else PAPER_FRAMES
    same = SAME_FRAMES.get(number)
    columns = ["trained on", "tested on, frames", "paper: recall / misses", "balanced", "ours"]
    columns += ["balanced", "seeds"]
    if same:
        span = _span(frame_range(same, frames))
        columns += [f"ours, frames {span}", "balanced"]
    for title in rows[0].others:
        columns += [title, "balanced"]
    lines = []
    for row in rows:
        cell = row.cell
        span = _span(frame_range(cell.frames, lengths.get(cell.tested, frames)))
        seeds = "" if row.ours is None else str(len(row.ours.seeds))
        texts = _line([row], lambda found: _pair_texts(found[0]), seeds)
        lines.append([_trained_on(cell), f"{cell.tested}, {span}", *texts])
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_group(row.cell), []).append(row)
    for name, members in groups.items():
        lines.append([f"mean, {name}", "", *_line(members, _means, "")])
    heading = f"Table {number}. {TABLE_TITLES[number]} ({describe(runs)})"
    return Table(f"table{number}", heading, columns, lines, _notes(number, frames), len(groups))


def summary_table(runs: Sequence[TrainedRun]) -> Table:
    """Lay every method out beside the paper's: recall, accuracy on misses and balanced accuracy, means over sets and pairs."""
    rows = []
    for method in METHODS.values():
        means = [mean_of(runs, method, percent(metric)) for metric in METRICS]
        paper = [
            published_mean(method, figure)
            for figure in (itemgetter(0), itemgetter(1), lambda pair: (pair.recall + pair.miss_accuracy) / 2)
        ]
        ours = [NOT_RUN if mean is None else _number(Spread(mean.value, mean.deviation)) for mean in means]
        theirs = ["" if value is None else f"{value:.1f}" for value in paper]
        rows.append([method.title, method.labels, *ours, *theirs])
    columns = ["method", "labels of the tested set", "recall", "misses", "balanced"]
    columns += ["paper: recall", "misses", "balanced"]
    notes = [
        "Ours: the last fifth of every set, which no network was trained or validated on; mean over sets and pairs, ± the "
        "standard deviation over seeds. The paper: means of its tables, on CXIDB 76 and the frames it tested.",
        "LCN units: the same networks on frames as the local contrast normalisation (LCN) leaves them, as in the paper; "
        "all others scale each frame to its noise.",
        "Labels: to train on + to choose epoch and threshold by, of a set of 2000 frames; of a shorter one the same shares.",
    ]
    return Table("summary", f"All methods ({describe(runs)})", columns, rows, notes)


def recall_table(runs: Sequence[TrainedRun]) -> Table:
    """Lay out the accuracy on misses at recalls of 90, 95 and 99 % of every method, on the same frames of every set."""
    columns = ["method", "labels of the tested set"]
    for tested in SETS:
        columns += [f"{tested} at {recall} %" for recall in PUBLISHED_RECALLS]
    columns += [f"mean at {recall} %" for recall in PUBLISHED_RECALLS] + ["mean area under ROC"]
    rows = []
    for method in METHODS.values():
        values = [
            _mean_text(runs, method, at_recall(recall), (tested,))
            for tested in SETS
            for recall in PUBLISHED_RECALLS
        ]
        values += [_mean_text(runs, method, at_recall(recall), SETS) for recall in PUBLISHED_RECALLS]
        values.append(_mean_text(runs, method, lambda record: record["area_under_curve"], SETS, "{:.4f}"))
        rows.append([method.title, method.labels, *values])
    notes = [
        "Frames 1601-2000 of every set (the last fifth of a shorter one), which no network was trained or validated on. "
        "The threshold is the highest that keeps this share of the positives. Means are over the pairs and seeds there are.",
        "Labels: for training + for the choice of the epoch and threshold; the spot counter only chooses a threshold.",
    ]
    heading = f"Accuracy on misses (%) at fixed recall ({describe(runs)})"
    return Table("recalls", heading, columns, rows, notes)


def measured_table(measured: Mapping[str, Any], runs: Sequence[TrainedRun] = ()) -> Table:
    """Lay Table 6 out: the paper's words, and what was measured.

    Args:
        measured: `transfer`, `reduced` and `dann`, each with any of `labels` (of the tested set), `preprocessing_seconds`,
            `training_seconds`, `recall` (per cent), `peak_memory_mib` and `frames_per_second`; `device`, words; `notes`, a
            list of lines; `simulated` and `quick`, bool.
        runs: recall and training time of methods not in `measured` are the means of their runs.
    """
    methods = ("transfer", "reduced", "dann")
    filled = {name: _from_runs(METHODS[name], runs) | dict(measured.get(name) or {}) for name in methods}
    rows = []
    for words, (key, unit, layout) in _MEASURED.items():
        row = [f"{words} ({unit})"]
        for name, judged in zip(methods, TABLE_6[words], strict=True):
            value = filled[name].get(key)
            row += [judged, NOT_RUN if value is None else layout.format(value)]
        rows.append(row)
    columns = [
        "",
        "transfer: paper",
        "measured",
        "RWD and 1D CNN: paper",
        "measured",
        "DANN: paper",
        "measured",
    ]
    notes = [f"Measured on {measured['device']}."] if measured.get("device") else []
    notes += list(measured.get("notes", ()))
    about = describe(runs)
    if "simulated" in measured:
        about = "simulated sets" if measured["simulated"] else "CXIDB 76"
        about += ", quick: fewer frames or epochs" if measured.get("quick") else ""
    return Table("table6", f"Table 6. {TABLE_TITLES[6]} ({about})", columns, rows, notes)


def _trained_on(cell: PublishedCell) -> str:
    if cell.method == "transfer":
        return f"{cell.source}, then {cell.target}"
    if cell.method == "dann":
        return f"{cell.source} -> {cell.target}"
    return f"{cell.source}, {'1D' if cell.method == 'reduced' else '2D'}" if cell.table == 7 else cell.source


def _group(cell: PublishedCell) -> str:
    if cell.table == 5:
        return "on the target" if cell.tested == cell.target else "on the source"
    if cell.table == 7:
        return "1D" if cell.method == "reduced" else "2D"
    if cell.table == 1:
        return "own set" if cell.tested == cell.source else "other sets"
    return "all rows"


def _span(frames: range) -> str:
    return f"{frames.start + 1}-{frames.stop}"


def _line(
    rows: Sequence[Row], show: Callable[[Sequence[Figures | None]], list[str]], seeds: str
) -> list[str]:
    """Write what stands after the names of a row: of one cell, or of several summed up."""
    recall, misses = np.mean([row.cell.published for row in rows], axis=0)
    columns = [[row.same_frames for row in rows]] if rows[0].cell.table in SAME_FRAMES else []
    columns += [[row.others[title] for row in rows] for title in rows[0].others]
    paper = [f"{recall:.2f} / {misses:.2f}", f"{(recall + misses) / 2:.2f}"]
    return [
        *paper,
        *show([row.ours for row in rows]),
        seeds,
        *(text for some in columns for text in show(some)),
    ]


def _pair_texts(found: Figures | None) -> list[str]:
    if found is None:
        return [NOT_RUN, NOT_RUN]
    recall, misses, balanced = (found.spread(metric) for metric in METRICS)
    interval = found.interval("balanced_accuracy")
    text = _number(balanced)
    if interval is not None:
        text += f" ({interval[0]:.1f}-{interval[1]:.1f})"
    return [f"{_number(Spread(recall.mean, None))} / {_number(Spread(misses.mean, None))}", text]


def _number(value: Spread) -> str:
    if value.mean is None:
        return "no frames"
    return f"{value.mean:.1f}" if value.deviation is None else f"{value.mean:.1f} ± {value.deviation:.1f}"


def _means(found: Sequence[Figures | None]) -> list[str]:
    """Means over rows; of those that were run, telling how many those are."""
    known = [item for item in found if item is not None]
    means = [[item.spread(metric).mean for item in known] for metric in METRICS]
    if not known or any(value is None for column in means for value in column):
        return [NOT_RUN, NOT_RUN]
    recall, misses, balanced = (float(np.mean([v for v in column if v is not None])) for column in means)
    partly = "" if len(known) == len(found) else f" ({len(known)} of {len(found)})"
    return [f"{recall:.1f} / {misses:.1f}", f"{balanced:.1f}{partly}"]


def _mean_text(
    runs: Sequence[TrainedRun],
    method: Method,
    value: Callable[[dict[str, Any]], float | None],
    sets: Sequence[str],
    layout: str = "{:.1f}",
) -> str:
    found = mean_of(runs, method, value, sets)
    return NOT_RUN if found is None else layout.format(found.value)


def _from_runs(method: Method, runs: Sequence[TrainedRun]) -> dict[str, float]:
    recall = mean_of(runs, method, percent("recall"))
    times = [
        run.record["training_seconds"]
        for run in runs
        if (run.method, run.split) == (method.method, method.split) and is_as_published(run)
        if isinstance(run.record.get("training_seconds"), (int, float))
    ]
    found = {} if recall is None else {"recall": recall.value}
    return found | ({"training_seconds": float(np.mean(times))} if times else {})


def _notes(number: int, frames: int) -> list[str]:
    notes = [
        "Recall on hits and maybes / accuracy on misses, %; balanced is their mean, ± the standard deviation over seeds, or "
        "with its 95 % interval where there is one seed. The paper's figures are of the real CXIDB 76."
    ]
    full = split("full", frames)
    last, first, few = map(_span, (full.test, full.validation, split("few", frames).validation))
    chosen = {
        1: f"frames {first} of the set trained on",
        3: f"target's frames {few}",
        5: f"source's frames {first}",
    }
    chosen[7] = f"source's validation frames: {few} for 1D, {first} for 2D"
    notes.append(
        f"Spot counter: its threshold is chosen on the {chosen.get(number, f'frames {few}')}, and it is tested as the network is."
    )
    if number == 7:
        notes.append(
            "The paper tests its 1D networks on all frames of the other set, and its 2D networks on the last 400. The columns "
            "on all frames test both alike; none of the other set's frames were trained or validated on."
        )
    elif number in SAME_FRAMES:
        notes.append(
            f"Columns on frames {last}: those of Table 1, which no network was trained or validated on."
        )
    if frames != PAPER_FRAMES:
        notes.append(
            f"These sets have {frames} frames, not {PAPER_FRAMES}; every range is cut in proportion."
        )
    return notes
