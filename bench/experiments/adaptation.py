"""What adaptation is worth where no frame of the new run has a label, in one table.

    python -m bench.experiments.adaptation --seeds 3

Labels come from one simulated set. Tested are the six pairs of the simulated sets, and runs of conditions of `bench.day_one`,
which neither the sets nor the networks' recipes know. The pairs' DANN stands in the report's record, the ways for vectors in
that of `bench.reductions`: they are read there. A killed experiment goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from sfxjax.data.inputs import find_files
from sfxjax.data.labels import MISS
from sfxjax.data.read import FrameReader
from sfxjax.data.set_description import SetDescription, cxidb76_set
from sfxjax.data.sets import FrameSet
from sfxjax.errors import run_main
from sfxjax.evaluation.metrics import Counts
from sfxjax.files import atomic_write_json
from sfxjax.json_files import read_json
from sfxjax.models.checkpoint import MODEL_FOLDER, load_model
from sfxjax.screen.found_spots import THRESHOLD
from sfxjax.screen.sources import Sources
from sfxjax.screen.spots import counted_frames
from sfxjax.simulate.write import simulated_data
from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS
from sfxjax.training import dann, supervised
from sfxjax.training.adapt import REDUCTION
from sfxjax.training.adapt_day_one import MOST_FITTED_FRAMES, adapt_to_run, frames_to_fit
from sfxjax.training.command import prepared_set, run
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.data import PreparedSet
from sfxjax.training.evaluation import map_logits, summarize
from sfxjax.training.published import PAIRS

from ..day_one.runs import run_set
from ..reductions.cells import Cell, run_cell
from .batch_statistics import with_batch_statistics_of
from .record import experiment_parser, markdown_table, mean_and_deviation, read, write

TRAINED_ON = "LN83"
# One that is easy, one whose noise no spot finder reads right, and three of many artefacts at once.
CONDITIONS_TRIED = (
    "counting 3",
    "uneven response",
    "every artefact of light",
    "every artefact of reading",
    "held out: rings, hot pixels and gaps",
)
# No training used such seeds, nor was anything chosen on them.
RUNS_SEED = 4_000_000
RUN_FRAMES = 240
CARRIED, STATISTICS = "2D CNN, carried over untouched", "2D CNN, batch statistics of the new run"
DANN_ROW = "DANN"
VECTORS = {
    "carried_over": f"{REDUCTION}, carried over untouched",
    "class_confusion": f"{REDUCTION}, minimum class confusion (`train.adapt`)",
    "self_training": f"{REDUCTION}, DANN, then self-training",
}
DAY_ONE_ROW, FITTED = "day-one model, as it is", "day-one model, fitted to the run"
ROWS = (CARRIED, STATISTICS, DANN_ROW, *VECTORS.values(), DAY_ONE_ROW, FITTED)


def day_one_answers(described: SetDescription) -> dict[str, dict[str, Any]]:
    """Judge a set by the day-one model as it is, and fitted to the set's frames without their labels.

    Args:
        described: the set.

    Returns:
        By `DAY_ONE_ROW` and `FITTED` what `summarize` tells, the second with a word on what was done.
    """
    with FrameSet(described) as frame_set:
        positive = frame_set.labels > MISS
    with FrameReader(replace(described.read, panels_apart=True)) as reader:
        sources = Sources(reader)
        sources.open(find_files(list(described.files)))
        adapted = adapt_to_run(frames_to_fit(sources, MOST_FITTED_FRAMES))

        def judged(pattern: Any, threshold: float) -> dict[str, Any]:
            found = list(counted_frames(sources, MIN_SNR, MIN_SPOTS, pattern=pattern))
            # What cannot be judged is no hit.
            scores = [0.0 if frame.spots is None else frame.spots.score for frame in found]
            return summarize(positive, np.array(scores), threshold)

        as_it_is = judged(None, THRESHOLD)
        fitted = as_it_is if adapted.pattern is None else judged(adapted.pattern, adapted.threshold)
    return {DAY_ONE_ROW: as_it_is, FITTED: fitted | {"why": adapted.why}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = experiment_parser("adaptation", "What adaptation without labels is worth.", seeds=3)
    parser.add_argument(
        "--conditions",
        default=";".join(CONDITIONS_TRIED),
        help="of bench.day_one, with ; between them (default: %(default)s)",
    )
    chosen = read(parser, arguments)
    conditions = [name for name in chosen.conditions.split(";") if name]
    experiment = _Experiment(chosen.runs, chosen.frames)
    cells = experiment.pairs(chosen.seeds) + experiment.conditions(conditions, chosen.seeds)
    cells += recorded(chosen.results, chosen.seeds) if chosen.frames == 2000 else []
    record = {"simulated": True, "frames": chosen.frames, "run_frames": RUN_FRAMES, "seeds": chosen.seeds}
    write(chosen.results, "adaptation", record | {"cells": cells}, page(cells, chosen.frames, chosen.seeds))


class _Experiment:
    """Does what is not done yet, and keeps each answer in a folder."""

    def __init__(self, folder: Path, frames: int) -> None:
        self._folder, self._frames = folder, frames

    def pairs(self, seeds: int) -> list[dict[str, Any]]:
        """Test on the six pairs: networks of each set carried over, and the day-one model, which knows none of them."""
        cells = []
        names = tuple(dict.fromkeys(name for pair in PAIRS for name in pair))
        for seed in range(seeds):
            for source in names:
                others = [name for name in names if name != source]
                cells += self._carried_over(source, {name: self._set(name) for name in others}, seed)
        for name in names:
            answers = self._kept(
                f"day-one-{name}",
                lambda name=name: day_one_answers(  # type: ignore[misc]  # bound now, called at once
                    cxidb76_set(simulated_data([name], self._frames, 0), name)
                ),
            )
            cells += [
                {"method": method, "source": None, "target": name, "seed": 0, "tested": tested}
                for method, tested in answers.items()
            ]
        return cells

    def conditions(self, names: Iterable[str], seeds: int) -> list[dict[str, Any]]:
        """Test on runs of conditions, one for each seed."""
        cells = []
        for seed in range(seeds):
            runs = {name: self._run(name, seed) for name in names}
            targets = {name: self._prepared_run(name, described) for name, described in runs.items()}
            cells += self._carried_over(TRAINED_ON, targets, seed)
            for name, target in targets.items():
                about = {"source": TRAINED_ON, "target": name, "seed": seed}
                tested = {DANN_ROW: self._dann(name, target, seed)}
                for way, title in VECTORS.items():
                    tested[title] = self._kept(
                        f"{way}-{_slug(name)}-{seed}",
                        lambda way=way, name=name, target=target, seed=seed: self._vectors(  # type: ignore[misc]
                            way, name, target, seed
                        ),
                    )
                tested |= self._kept(
                    f"day-one-{_slug(name)}-{seed}",
                    lambda described=runs[name]: day_one_answers(described),  # type: ignore[misc]
                )
                cells += [about | {"method": method, "tested": each} for method, each in tested.items()]
        return cells

    def _set(self, name: str) -> PreparedSet:
        return prepared_set(name, (None, REDUCTION), None, self._frames)

    def _run(self, name: str, seed: int) -> SetDescription:
        folder = self._folder / "frames" / f"{_slug(name)}-{seed}"
        return run_set(_slug(name), name, RUNS_SEED + seed, RUN_FRAMES, folder, clear=True)

    @staticmethod
    def _prepared_run(name: str, described: SetDescription) -> PreparedSet:
        return prepared_set(described.name, (None, REDUCTION), described, 0)

    def _carried_over(
        self, source: str, targets: Mapping[str, PreparedSet], seed: int
    ) -> list[dict[str, Any]]:
        plan = RunConfig(
            "supervised", source, None, None, None, replace(supervised.RECIPE, seed=seed), frames=self._frames
        )
        folder = self._folder / f"supervised-{source}-{seed}"
        run(plan, lambda: {source: self._set(source)}, folder)
        model = load_model(folder / MODEL_FOLDER)
        cells = []
        for name, target in targets.items():
            maps = target.masked[None]
            for method, each in {
                CARRIED: model,
                STATISTICS: with_batch_statistics_of(model, maps, seed),
            }.items():
                tested = summarize(target.positives, expit(map_logits(each, maps)))
                cells.append(
                    {"method": method, "source": source, "target": name, "seed": seed, "tested": tested}
                )
        return cells

    def _dann(self, name: str, target: PreparedSet, seed: int) -> dict[str, Any]:
        recipe: TrainingConfig = replace(dann.RECIPE, seed=seed)
        plan = RunConfig("dann", TRAINED_ON, target.name, None, None, recipe, frames=self._frames)
        sets = {TRAINED_ON: self._set(TRAINED_ON), target.name: target}
        results = run(plan, lambda: sets, self._folder / f"dann-{_slug(name)}-{seed}")
        return dict(results["tested"][target.name])

    def _vectors(self, way: str, name: str, target: PreparedSet, seed: int) -> dict[str, Any]:
        labels = len(self._set(TRAINED_ON)) * 3 // 5
        cell = Cell("adaptation", REDUCTION, TRAINED_ON, name, labels, way, seed)
        return dict(run_cell(cell, {TRAINED_ON: self._set(TRAINED_ON), name: target})["tested"])

    def _kept(self, name: str, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self._folder / "answers" / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_json(path, answer())
        return dict(read_json(path))


def recorded(results: Path, seeds: int) -> list[dict[str, Any]]:
    """Return what the records of the report and of `bench.reductions` tell of the six pairs, for the same seeds and frames.

    Args:
        results: folder of the records.
        seeds: 0, 1, ...
    """
    cells = []
    for cell in read_json(results / "paper" / "cells.json")["tables"]["table5"]:
        if cell["tested"] == cell["target"]:
            about = {"method": DANN_ROW, "source": cell["source"], "target": cell["target"]}
            cells += [
                about | {"seed": ours["seed"], "tested": _percents(ours), "record": "paper"}
                for ours in cell["ours"]
                if ours["seed"] < seeds and _is_default(ours)
            ]
    for cell in read_json(results / "reductions.json")["cells"]:
        of_vectors = cell["kind"] == "adaptation" and cell["reduction"] == REDUCTION
        if of_vectors and cell["method"] in VECTORS and cell["seed"] < seeds:
            about = {key: cell[key] for key in ("source", "target", "seed")}
            about |= {"method": VECTORS[cell["method"]], "record": "reductions"}
            cells.append(about | {"tested": _percents(cell)})
    return cells


def _is_default(ours: Mapping[str, Any]) -> bool:
    return bool(ours["recipe"]["base"]["noise_normalised"])


def _percents(record: Mapping[str, Any]) -> dict[str, Any]:
    counts = Counts(**record["counts"])
    rates = {name: getattr(counts, name).value for name in ("recall", "miss_accuracy", "balanced_accuracy")}
    return {name: {"percent": 100 * value} for name, value in rates.items()}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "." else "_" for letter in name)


def _balanced(cell: Mapping[str, Any]) -> float:
    return float(cell["tested"]["balanced_accuracy"]["percent"])


@cache
def _sets_of_pairs() -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for pair in PAIRS for name in pair))


def by_target(
    cells: Sequence[Mapping[str, Any]], method: str, of_sets: bool
) -> dict[tuple[Any, ...], list[float]]:
    """Return a method's balanced accuracies, per cent, a list over seeds for each pair of sets, or each condition."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for cell in cells:
        if cell["method"] == method and (cell["target"] in _sets_of_pairs()) == of_sets:
            found.setdefault((cell["source"], cell["target"]), []).append(_balanced(cell))
    return found


def page(cells: Sequence[Mapping[str, Any]], frames: int, seeds: int) -> str:
    """Lay the answers out as Markdown, with what wins."""
    conditions = dict.fromkeys(cell["target"] for cell in cells if cell["target"] not in _sets_of_pairs())
    rows, detail = [], []
    means: dict[str, dict[bool, float]] = {}
    for method in ROWS:
        row = [method]
        means[method] = {}
        for of_sets in (True, False):
            found = by_target(cells, method, of_sets)
            # A mean over targets for each seed: what differs between seeds is how sure this is.
            runs = max((len(values) for values in found.values()), default=0)
            over = [
                float(np.mean([v[seed] for v in found.values() if len(v) > seed])) for seed in range(runs)
            ]
            lowest = [f"{min(np.mean(values) for values in found.values()):.1f}"] if found else ["-"]
            row += [mean_and_deviation(over), *lowest]
            means[method][of_sets] = float(np.mean(over)) if over else 0.0
        rows.append(row)
        found = by_target(cells, method, False)
        of_conditions = {target: values for (_, target), values in found.items()}
        detail.append([method, *(mean_and_deviation(of_conditions.get(name, [])) for name in conditions)])
    best = {of_sets: max(ROWS, key=lambda method: means[method][of_sets]) for of_sets in (True, False)}
    lines = [
        f"Best without a label of the new run: on the pairs of simulated sets {best[True]} "
        f"({means[best[True]][True]:.1f}), on the conditions {best[False]} ({means[best[False]][False]:.1f}).",
        "",
        "**What adaptation is worth where no frame of the new run has a label** (balanced accuracy, per cent, mean ± standard "
        f"deviation over {seeds} seeds, simulated frames: six pairs of sets of {frames} frames, all of the target's; and, with "
        f"labels of {TRAINED_ON}, {len(conditions)} conditions of `bench.day_one`, for each seed a run of {RUN_FRAMES} frames of "
        "one detector, none near the threshold of sight. Lowest: of a pair or a condition, mean over seeds. The day-one model "
        "has no seed, so on the sets one answer)",
        "",
        markdown_table(
            ["no label of the new run", "six pairs", "lowest", f"{len(conditions)} conditions", "lowest"],
            rows,
        ),
        "",
        "**The same, by condition**",
        "",
        markdown_table(["", *conditions], detail),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_main(main))
