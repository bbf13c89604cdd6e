"""What the cells of `bench.reductions` come to: means and spreads over seeds, tables and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.data.set_description import CXIDB76
from sfxjax.files import atomic_write
from sfxjax.text import plus_minus
from sfxjax.training.adaptation import ADAPTATIONS

from ..paper.runs import METRICS

FREE_LABELS = ", transposed frames too"


def per_seed(cells: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """Return a metric's mean over sets or pairs for each seed, per cent."""
    seeds = sorted({cell["seed"] for cell in cells})
    return [
        float(np.mean([value_of(cell, metric) for cell in cells if cell["seed"] == seed])) for seed in seeds
    ]


def value_of(cell: Mapping[str, Any], metric: str) -> float:
    """Return a metric of one cell, per cent; `miss_accuracy_at_95` is the one at recall 95 %."""
    if metric == "miss_accuracy_at_95":
        return cell["tested"]["miss_accuracy_at_recall"]["95"]
    return cell["tested"][metric]["percent"]


def deviation_over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation over seeds."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard_deviation": deviation}


def cell_figures(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of cells that differ in set or pair and seed: means over the former, spread over the latter."""
    found: dict[str, Any] = {
        metric: deviation_over_seeds(per_seed(cells, metric)) for metric in (*METRICS, "miss_accuracy_at_95")
    }
    pairs = sorted({(cell["source"], cell["target"]) for cell in cells})
    found["pairs"] = {
        f"{source} -> {target}": {
            metric: deviation_over_seeds(per_seed(own, metric))
            for metric in (*METRICS, "miss_accuracy_at_95")
        }
        for source, target in pairs
        for own in [[cell for cell in cells if (cell["source"], cell["target"]) == (source, target)]]
    }
    found["lowest_recall"] = min(each["recall"]["mean"] for each in found["pairs"].values())
    return found


def summarize_cells(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Group cells into what the tables show.

    Args:
        cells: as `bench.reductions.cells.run_cell` gives them.

    Returns:
        `few_labels`: by reduction and number of labels; `free_labels`: the same with transposed frames; `adaptation`:
            by reduction and method.
    """
    cells = list(cells)
    summary: dict[str, Any] = {"few_labels": {}, "free_labels": {}, "adaptation": {}}
    kinds = {"labels": "few_labels", "free_labels": "free_labels", "adaptation": "adaptation"}
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        column = cell["method"] if cell["kind"] == "adaptation" else str(cell["labels"])
        groups.setdefault((kinds[cell["kind"]], cell["reduction"], column), []).append(cell)
    for (kind, reduction, column), own in groups.items():
        summary[kind].setdefault(reduction, {})[column] = cell_figures(own)
    return summary


def with_deviation(value: Mapping[str, Any]) -> str:
    """Write a mean, with its standard deviation over seeds where there is one."""
    return plus_minus(value["mean"], value["standard_deviation"])


def tables(record: Mapping[str, Any]) -> str:
    """Lay a record out as Markdown."""
    frames = "/".join(str(count) for count in record["frames"].values())
    note = f"{_sets(record)} of {frames} frames, {record['seeds']} seeds; per cent, ± the standard deviation over seeds"
    parts = [_few_labels_row(record, note)]
    # Of one set alone nothing is carried over.
    parts += [_carried_over(record, note)] * bool(record["adaptation"])
    parts += [
        _adaptation_row(record, reduction, note)
        for reduction in record["adaptation"]
        if _is_adapted(record, reduction)
    ]
    return "\n".join(parts)


def _sets(record: Mapping[str, Any]) -> str:
    """Say what the frames are of: simulated sets, CXIDB 76, or sets of the user's own by their names."""
    if record["simulated"]:
        return "simulated sets"
    return "CXIDB 76" if set(record["sets"]) <= CXIDB76.keys() else ", ".join(record["sets"])


def _is_adapted(record: Mapping[str, Any], reduction: str) -> bool:
    return len(record["adaptation"][reduction]) > 1


def _few_labels_row(record: Mapping[str, Any], note: str) -> str:
    counts = [str(count) for count in record["labels"]]
    lines = [
        f"**Balanced accuracy with few labels** ({note}; mean over the sets; no frame beyond the labelled ones is used)",
        "",
        "| reduction, length | " + " | ".join(f"{count} labels" for count in counts) + " |",
        "|---|" + "---|" * len(counts),
    ]
    rows = [(name, record["few_labels"][name]) for name in record["few_labels"]]
    rows += [(name + FREE_LABELS, record["free_labels"][name]) for name in record["free_labels"]]
    for title, found in rows:
        name = title.removesuffix(FREE_LABELS)
        length = " x ".join(map(str, record["lengths"][name]))
        cells = [with_deviation(found[count]["balanced_accuracy"]) for count in counts]
        lines.append(f"| {title}, {length} | " + " | ".join(cells) + " |")
    lines += ["", f"**Recall / accuracy on misses with few labels** ({note})", "", *lines[2:4]]
    for title, found in rows:
        cells = [
            f"{found[count]['recall']['mean']:.1f} / {found[count]['miss_accuracy']['mean']:.1f}"
            for count in counts
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _carried_over(record: Mapping[str, Any], note: str) -> str:
    lines = [
        f"**Carried over to another set, untouched** ({note}; all of the source's labels, none of the target's)",
        "",
        "| reduction | recall | misses | balanced | misses at recall 95 % | lowest recall of a pair | frames/s, crop to vector |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, methods in record["adaptation"].items():
        found = methods["carried_over"]
        cells = [with_deviation(found[metric]) for metric in (*METRICS, "miss_accuracy_at_95")]
        cells += [f"{found['lowest_recall']:.1f}", f"{record['crop_to_vector'][name]['median']:.0f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"Frames/s: on {record['device']}, crops of 724 x 724 uint16 already on the device."]
    return "\n".join(lines) + "\n"


def _adaptation_row(record: Mapping[str, Any], reduction: str, note: str) -> str:
    found = record["adaptation"][reduction]
    pairs = list(next(iter(found.values()))["pairs"])
    lines = [
        f"**No target label: {reduction}** ({note}; balanced accuracy, and accuracy on misses at recall 95 %)",
        "",
        "| method | " + " | ".join(pairs) + " | mean | misses at recall 95 % | lowest recall |",
        "|---|" + "---|" * (len(pairs) + 3),
    ]
    for method in ADAPTATIONS:
        if method not in found:
            continue
        each = found[method]
        cells = [with_deviation(each["pairs"][pair]["balanced_accuracy"]) for pair in pairs]
        cells += [with_deviation(each["balanced_accuracy"]), with_deviation(each["miss_accuracy_at_95"])]
        lines.append(
            f"| {ADAPTATIONS[method].title} | " + " | ".join(cells) + f" | {each['lowest_recall']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def draw_figure(record: Mapping[str, Any], path: Path) -> None:
    """Draw labels needed, and how reductions and adaptations carry over.

    Args:
        record: as `bench.reductions` writes it.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    counts = record["labels"]
    styles = ["-", "--", ":"]
    for place, (name, found) in enumerate(record["few_labels"].items()):
        values = [found[str(count)]["balanced_accuracy"] for count in counts]
        means = [value["mean"] for value in values]
        deviations = [value["standard_deviation"] or 0.0 for value in values]
        left.errorbar(
            counts,
            means,
            deviations,
            label=name,
            marker="o",
            capsize=2,
            color=f"C{place % 10}",
            linestyle=styles[place // 10],
        )
    left.set_xscale("log")
    left.set_xticks(counts, [str(count) for count in counts])
    left.minorticks_off()
    left.set_xlabel("labels, all told")
    left.set_ylabel("balanced accuracy, mean over the sets (%)")
    left.set_title("with few labels of the same set", fontsize=10)
    left.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    left.grid(alpha=0.3)

    rows = [
        (name, "carried over, untouched", methods["carried_over"])
        for name, methods in record["adaptation"].items()
    ]
    for name, methods in record["adaptation"].items():
        rows += [
            (name, ADAPTATIONS[method].title, found)
            for method, found in methods.items()
            if method != "carried_over"
        ]
    heights = np.arange(len(rows))[::-1]
    for height, (_, _, found) in zip(heights, rows, strict=True):
        values = [pair["balanced_accuracy"]["mean"] for pair in found["pairs"].values()]
        right.plot(values, np.full(len(values), height), ".", color="0.6")
        mean = found["balanced_accuracy"]
        right.errorbar(
            mean["mean"], height, xerr=mean["standard_deviation"] or 0.0, fmt="o", color="C3", capsize=2
        )
    right.set_yticks(heights, [f"{name}: {title}" for name, title, _ in rows], fontsize=7)
    right.set_xlabel("balanced accuracy on another set, no target label (%)")
    right.set_title(
        "without labels of the set\ngrey: pairs of sets; red: their mean, spread over seeds", fontsize=10
    )
    right.grid(alpha=0.3)
    figure.suptitle(f"Reductions on {_sets(record)}, {record['seeds']} seeds")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
