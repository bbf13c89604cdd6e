"""The trainings that the paper's tables are of, as plans: one run for every network, whichever tables it stands in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sfxjax.data.splits import split
from sfxjax.training import dann, reduced, supervised, transfer
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.published import PAIRS, PublishedCell, cells

from .runs import AS_PUBLISHED, FEWER, NORMALISED

RWD = "row_wise_decomposition"
RECIPES: dict[str, TrainingConfig] = {
    "supervised": supervised.RECIPE,
    "transfer": transfer.RECIPE,
    "reduced": reduced.RECIPE,
    "dann": dann.RECIPE,
}
# Tables of trained networks; Table 6 is measured apart.
TABLES_OF_RUNS = (1, 2, 3, 4, 5, 7)
# Trained a second time, with the first seed alone, in LCN units: what scaling to the frame's noise is worth.
ALSO_NORMALISED = (("supervised", "full"), ("reduced", "few"), ("dann", "full"))
# Trained a second time on an eighth of the labels: networks that need fewer than the paper's lose little with as many.
ALSO_WITH_FEWER = (("supervised", "few"), ("transfer", "few"), ("reduced", "few"))
FEWER_LABELS = 8
# Each set once as source and once as target.
QUICK_PAIRS = (("LN83", "LO19"), ("LO19", "LN84"), ("LN84", "LN83"))
QUICK_EPOCHS = {"supervised": 10, "transfer": 6, "reduced": 10, "dann": 10}


@dataclass(frozen=True)
class Comparison:
    """What is trained.

    Attributes:
        tables: numbers of the tables that are to be filled.
        seeds: how many, from 0 on.
        pairs: of sets, that transfer and DANN are trained on.
        data: folder of CXIDB 76, or None for simulated sets.
        frames: of each set.
        quick: with fewer epochs.
    """

    tables: tuple[int, ...] = TABLES_OF_RUNS
    seeds: int = 1
    pairs: tuple[tuple[str, str], ...] = PAIRS
    data: str | None = None
    frames: int = 2000
    quick: bool = False

    def recipe(self, method: str, variant: str = AS_PUBLISHED) -> TrainingConfig:
        """Return a method's recipe.

        Args:
            method: key of `RECIPES`.
            variant: `NORMALISED` for frames in LCN units, as the paper's networks read them.
        """
        recipe = RECIPES[method]
        recipe = replace(recipe, base=replace(recipe.base, noise_normalised=variant != NORMALISED))
        return replace(recipe, epochs=QUICK_EPOCHS[method]) if self.quick else recipe


def planned(comparison: Comparison, runs: Path) -> dict[Path, RunConfig]:
    """List the trainings, those that others start from first.

    Args:
        comparison: what is asked for.
        runs: folder of all runs.

    Returns:
        A plan for each folder.
    """
    plans: dict[Path, RunConfig] = {}
    for seed in range(comparison.seeds):
        for cell in _wanted(comparison):
            if cell.method == "transfer":
                base = folder_of(runs, "supervised", "full", cell.source, None, seed)
                plans[base] = _plan(comparison, "supervised", "full", cell.source, None, seed, None)
            started = str(base) if cell.method == "transfer" else None
            about = cell.method, cell.split, cell.source, cell.target, seed
            for variant in _variants(cell, seed):
                plans[folder_of(runs, *about, variant=variant)] = _plan(
                    comparison, *about, started, variant=variant
                )
    return dict(sorted(plans.items(), key=lambda item: item[1].base is not None))


def folder_of(
    runs: Path,
    method: str,
    part: str,
    source: str,
    target: str | None,
    seed: int,
    *,
    variant: str = AS_PUBLISHED,
) -> Path:
    """Name the folder of a run, by its split and its variant too."""
    words = [word for word in (method, part, source, target, variant) if word]
    return runs / "-".join([*words, f"seed{seed}"])


def _variants(cell: PublishedCell, seed: int) -> Iterable[str]:
    yield AS_PUBLISHED
    if seed == 0 and (cell.method, cell.split) in ALSO_NORMALISED:
        yield NORMALISED
    if (cell.method, cell.split) in ALSO_WITH_FEWER:
        yield FEWER


def _wanted(comparison: Comparison) -> Iterable[PublishedCell]:
    for table in comparison.tables:
        for cell in cells(table):
            if cell.target is None or (cell.source, cell.target) in comparison.pairs:
                yield cell
    if 5 in comparison.tables:
        # The source-only networks beside DANN are those of Table 1.
        sources = {source for source, _ in comparison.pairs}
        yield from (cell for cell in cells(1) if cell.source in sources)


def _plan(
    comparison: Comparison,
    method: str,
    part: str,
    source: str,
    target: str | None,
    seed: int,
    base: str | None,
    *,
    variant: str = AS_PUBLISHED,
) -> RunConfig:
    labels = len(split("few", comparison.frames).train) if part == "few" else None
    if labels is not None and variant == FEWER:
        labels = max(1, labels // FEWER_LABELS)
    return RunConfig(
        method,  # type: ignore[arg-type]  # one of the literals, from the published cells
        source,
        target,
        labels,
        RWD if method == "reduced" else None,
        replace(comparison.recipe(method, variant), seed=seed),
        comparison.data,
        comparison.frames,
        base=base,
    )
