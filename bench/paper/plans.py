"""The networks that the paper's tables are of, and how each is trained: one run, whichever tables it stands in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sfxjax.data.splits import split
from sfxjax.training import dann, reduced, supervised, transfer
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.published import PAIRS, PublishedCell, cells

# Tables of trained networks; Table 6 is of three methods, measured apart.
TABLES = (1, 2, 3, 4, 5, 7)
RWD = "row_wise_decomposition"
# What a network differs in from its like in the paper: nothing, its number of labels, or the units of its frames.
AS_PUBLISHED, FEWER, NORMALISED = "", "fewer", "normalised"
# Trained a second time on an eighth of the labels: networks that need fewer than the paper's lose little with as many.
ALSO_WITH_FEWER = (("supervised", "few"), ("transfer", "few"), ("reduced", "few"))
FEWER_LABELS = 8
# Trained a second time, with the first seed alone, in LCN units: what scaling to the frame's noise is worth.
ALSO_NORMALISED = (("supervised", "full"), ("reduced", "few"), ("dann", "full"))

RECIPES: dict[str, TrainingConfig] = {
    "supervised": supervised.RECIPE,
    "transfer": transfer.RECIPE,
    "reduced": reduced.RECIPE,
    "dann": dann.RECIPE,
}
QUICK_EPOCHS = {"supervised": 10, "transfer": 6, "reduced": 10, "dann": 10}
# Each set once as source and once as target.
QUICK_PAIRS = (("LN83", "LO19"), ("LO19", "LN84"), ("LN84", "LN83"))


@dataclass(frozen=True)
class Comparison:
    """What is trained.

    Attributes:
        tables: numbers of the tables that are to be filled.
        seeds: how many, from 0 on.
        data: folder of CXIDB 76, or None for simulated sets.
        frames: of each set.
        quick: with fewer epochs and pairs of sets.
    """

    tables: tuple[int, ...] = TABLES
    seeds: int = 1
    data: str | None = None
    frames: int = 2000
    quick: bool = False


@dataclass(frozen=True)
class Network:
    """A network of the paper's tables, or a spot counter beside them.

    Attributes:
        method: `supervised`, `transfer`, `reduced` or `dann`, or `spot_counter`.
        split: `full` or `few` of `sfxjax.data.splits`, that the set with labels is cut by.
        source: the set trained on, see `sfxjax.training.published.PublishedCell`.
        target: the other set trained on, if any.
        variant: what it differs in from the paper's network: `AS_PUBLISHED`, `FEWER` or `NORMALISED`.
        seed: of the training.
    """

    method: str
    split: str
    source: str
    target: str | None = None
    variant: str = AS_PUBLISHED
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the folder of its run."""
        words = [self.method, self.split, self.source, self.target, self.variant, f"seed{self.seed}"]
        return "-".join(word for word in words if word)

    @property
    def base(self) -> Network | None:
        """The network that it starts from, if any."""
        if self.method != "transfer":
            return None
        return Network("supervised", "full", self.source, seed=self.seed)


def networks(comparison: Comparison) -> list[Network]:
    """List the networks of a comparison, each once, those that others start from first."""
    found: list[Network] = []
    for seed in range(comparison.seeds):
        for cell in _wanted(comparison):
            network = Network(cell.method, cell.split, cell.source, cell.target, seed=seed)
            found += [replace(network, variant=variant) for variant in _variants_of(network)]
    bases = [network.base for network in found if network.base]
    return sorted(dict.fromkeys([*bases, *found]), key=lambda network: network.base is not None)


def _wanted(comparison: Comparison) -> Iterable[PublishedCell]:
    pairs = QUICK_PAIRS if comparison.quick else PAIRS
    for table in comparison.tables:
        yield from (cell for cell in cells(table) if not cell.target or (cell.source, cell.target) in pairs)
    if 5 in comparison.tables:
        # The source-only networks beside DANN are those of Table 1.
        yield from cells(1)


def _variants_of(network: Network) -> Iterable[str]:
    yield AS_PUBLISHED
    if (network.method, network.split) in ALSO_WITH_FEWER:
        yield FEWER
    if (network.method, network.split) in ALSO_NORMALISED and network.seed == 0:
        yield NORMALISED


def plan_of(network: Network, comparison: Comparison, runs: Path) -> RunConfig:
    """Return how a network of a comparison is trained, with all runs in one folder."""
    recipe = RECIPES[network.method]
    recipe = replace(
        recipe,
        base=replace(recipe.base, noise_normalised=network.variant != NORMALISED),
        seed=network.seed,
        epochs=QUICK_EPOCHS[network.method] if comparison.quick else recipe.epochs,
    )
    labels = len(split("few", comparison.frames).train) if network.split == "few" else None
    if labels is not None and network.variant == FEWER:
        labels = max(1, labels // FEWER_LABELS)
    return RunConfig(
        network.method,  # type: ignore[arg-type]  # one of the literals
        network.source,
        network.target,
        labels,
        RWD if network.method == "reduced" else None,
        recipe,
        comparison.data,
        comparison.frames,
        base=str(runs / network.base.name) if network.base else None,
    )
