"""Figures of networks that other benchmarks have trained, as points of curves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sfxjax.errors import UserError
from sfxjax.evaluation.metrics import Counts

RECORDED_SETS = ("LN83", "LN84", "LO19")
DAY_ONE = "day-one model, fitted"
TAUGHT = "2D CNN, taught by the fitted day-one model"
NETWORK = "RWD and 1D CNN"
SCRATCH = "2D CNN from scratch"
TRANSFER = "transfer"
# The same without a label beside those that are counted: they choose the epoch and calibrate as well.
SCRATCH_ALONE = "2D CNN from scratch, no other labels"
TRANSFER_ALONE = "transfer, no other labels of the set"
# The mean over `SETS`, where no more was recorded.
MEAN = "mean"
RANDOM = "random"
# Of `bench.paper`: its networks choose the epoch and calibrate on as many labels more.
VALIDATION_LABELS = 200
_PAPER = {
    "supervised": SCRATCH,
    "transfer": TRANSFER,
}
_FEWER = 25


def earlier(results: Path) -> list[dict[str, Any]]:
    """Return what `bench.reductions` and `bench.paper` have recorded of few labels, a point each.

    Args:
        results: folder of the records.

    Raises:
        UserError: a record is missing or of another kind.
    """
    try:
        reductions = json.loads((results / "reductions.json").read_text())
        paper = json.loads((results / "paper" / "cells.json").read_text())
        return _of_reductions(reductions) + _of_paper(paper)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; run bench.reductions and bench.paper first") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"a record in {results} is of another version ({error!r}); make it anew") from error


def _of_reductions(record: dict[str, Any]) -> list[dict[str, Any]]:
    points = []
    for cell in record["cells"]:
        if cell["kind"] != "labels" or cell["reduction"] != "row_wise_decomposition":
            continue
        counts = Counts(**cell["counts"])
        rates = {
            name: {"percent": 100 * value}
            for name in ("recall", "miss_accuracy", "balanced_accuracy")
            for value in [getattr(counts, name).value]
        }
        points.append(
            _curve_point(cell["source"], NETWORK, cell["seed"], cell["labels"])
            | {"counts": asdict(counts), **rates, "recorded_by": "bench.reductions"}
        )
    return points


def _of_paper(record: dict[str, Any]) -> list[dict[str, Any]]:
    points = []
    for row in (row for rows in record["tables"].values() for row in rows):
        if row["split"] != "few" or row["method"] not in _PAPER:
            continue
        for run in row["ours"]:
            points.append(
                _curve_point(run["tested"], _PAPER[row["method"]], run["seed"], run["labels"])
                | {name: {"percent": run[name]["percent"]} for name in ("recall", "miss_accuracy")}
                | {"balanced_accuracy": {"percent": run["balanced_accuracy"]["percent"]}}
                | {"source": row["source"], "recorded_by": "bench.paper"}
            )
    for key, method in _PAPER.items():
        mean = record["means"][f"{key}_fewer"]
        points.append(
            _curve_point(MEAN, method, None, _FEWER)
            | {name: {"percent": each["value"]} for name, each in mean.items()}
            | {"deviation": mean["balanced_accuracy"]["deviation"]}
            | {"recorded_by": "bench.paper"}
        )
    return points


def _curve_point(name: str, method: str, seed: int | None, labels: int) -> dict[str, Any]:
    return {"set": name, "method": method, "choice": RANDOM, "seed": seed, "labels": labels}
