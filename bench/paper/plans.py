"""The trainings that the paper's tables are of, as plans: one run for every network, whichever tables it stands in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sfxjax.data.splits import split
from sfxjax.training import dann, reduced, supervised, transfer
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.published import PAIRS, PublishedCell, cells

from .methods import TABLES
from .runs import AS_PUBLISHED, FEWER, NORMALISED, RWD

RECIPES: dict[str, TrainingConfig] = {
    "supervised": supervised.RECIPE,
    "transfer": transfer.RECIPE,
    "reduced": reduced.RECIPE,
    "dann": dann.RECIPE,
}
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

    tables: tuple[int, ...] = TABLES
    seeds: int = 1
    pairs: tuple[tuple[str, str], ...] = PAIRS
    data: str | None = None
    frames: int = 2000
    quick: bool = False


def planned(comparison: Comparison, runs: Path) -> dict[Path, RunConfig]:
    """List the trainings by folder within that of all runs, those that others start from first.

    A folder is named by the method, its split, its sets, its variant and the seed.
    """
    plans: dict[Path, RunConfig] = {}

    def add(cell: PublishedCell, seed: int, variant: str = AS_PUBLISHED, base: Path | None = None) -> Path:
        words = [cell.method, cell.split, cell.source, cell.target, variant, f"seed{seed}"]
        folder = runs / "-".join(word for word in words if word)
        plans[folder] = _plan(comparison, cell, seed, variant, base)
        return folder

    for seed in range(comparison.seeds):
        for cell in _wanted(comparison):
            base = None
            if cell.method == "transfer":
                base = add(cell._replace(method="supervised", split="full", target=None), seed)
            for variant in _variants_of(cell, seed):
                add(cell, seed, variant, base)
    return dict(sorted(plans.items(), key=lambda item: item[1].base is not None))


def _variants_of(cell: PublishedCell, seed: int) -> Iterable[str]:
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
    comparison: Comparison, cell: PublishedCell, seed: int, variant: str, base: Path | None
) -> RunConfig:
    recipe = RECIPES[cell.method]
    recipe = replace(
        recipe,
        base=replace(recipe.base, noise_normalised=variant != NORMALISED),
        seed=seed,
        epochs=QUICK_EPOCHS[cell.method] if comparison.quick else recipe.epochs,
    )
    labels = len(split("few", comparison.frames).train) if cell.split == "few" else None
    if labels is not None and variant == FEWER:
        labels = max(1, labels // FEWER_LABELS)
    return RunConfig(
        cell.method,  # type: ignore[arg-type]  # one of the literals
        cell.source,
        cell.target,
        labels,
        RWD if cell.method == "reduced" else None,
        recipe,
        comparison.data,
        comparison.frames,
        base=None if base is None else str(base),
    )
