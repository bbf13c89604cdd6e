"""Train for a new set without labelling any of its frames, by the recipe that did best (`bench/results/reductions.md`).

    python -m train.adapt --source LN83 --target LO19

trains the 1D CNN on `soft_spot_counts` vectors of the labelled source and of the unlabelled target, tests it on the target, and
leaves a model that `python -m sfxjax.screen FILE --model runs/adapt-LN83-LO19 --out DIR` applies. The vectors
hold ratios to each frame's noise, so that little is left to adapt; `--method` and `--reduction` try others. A killed run goes
on with the same command.

    python -m train.adapt --model day-one --frames run0095.cxi --out adapted

fits the day-one model to a run instead, see `sfxjax.training.adapt_day_one`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sfxjax.training.adaptation import ADAPTATIONS
from sfxjax.training.chosen_sets import read_sets
from sfxjax.training.command import (
    data_of,
    parse,
    parser_for,
    read_recipe,
    read_reduction,
    train_one,
)
from sfxjax.training.config import RunConfig, TrainingConfig, folder_name
from sfxjax.training.result_table import published_dann

RECIPE = TrainingConfig(epochs=8)
REDUCTION = "soft_spot_counts"
METHOD = "class_confusion"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if any(word.partition("=")[0] == "--model" for word in given):
        # Imported where it is asked for: it needs nothing of what trains networks.
        from sfxjax.training.adapt_day_one import adapt_day_one

        return adapt_day_one(given)
    parser = parser_for(
        "train.adapt",
        "Train for a set without labels, by the recipe that did best. --model day-one fits the day-one model to a run "
        "instead: see train.adapt --model day-one --help.",
        RECIPE,
        two_sets=True,
        networks=False,
    )
    parser.add_argument(
        "--reduction", default=REDUCTION, metavar="NAME", help=f"or file.py:function (default: {REDUCTION})"
    )
    parser.add_argument("--method", choices=list(ADAPTATIONS), default=METHOD, help=f"(default: {METHOD})")
    parser.add_argument(
        "--labels", type=int, help="of the source (default: the paper's training part, 1200 of 2000)"
    )
    chosen = parse(parser, arguments)
    (source, target), described = read_sets(chosen, chosen.source, chosen.target)
    reduction = read_reduction(chosen.reduction)
    recipe = read_recipe(chosen, RECIPE, reduction)
    plan = RunConfig(
        "adapt",
        source,
        target,
        chosen.labels,
        reduction,
        recipe,
        data_of(described),
        chosen.frames,
        adaptation=chosen.method,
    )
    suffix = "" if reduction == REDUCTION else f"-{folder_name(reduction)}"
    out = chosen.out or Path("runs") / f"adapt-{source}-{target}{suffix}"
    title = f"{ADAPTATIONS[chosen.method].title} on {reduction}, no target label"
    train_one(plan, described, out, lambda _: title, published_dann(plan))
