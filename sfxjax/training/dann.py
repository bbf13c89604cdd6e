"""Train a domain-adversarial network: labels from one set, none from another.

    python -m train.dann --source LN83 --target LO19

trains on the labelled source and the unlabelled target, trains the same network on the source alone for comparison, tests
both on the target, and leaves a model that `python -m sfxjax.screen FILE --model runs/dann-LN83-LO19 --out DIR` applies.
Without --data both sets are simulated sets. A killed run goes on with the same command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from sfxjax.command_line import between
from sfxjax.data.set_description import SetDescription
from sfxjax.training.chosen_sets import read_sets
from sfxjax.training.command import (
    check_before_reading,
    data_of,
    named_sets,
    network_suffix,
    parse,
    parser_for,
    read_recipe,
    read_reduction,
    run,
)
from sfxjax.training.config import RunConfig, TrainingConfig, folder_name
from sfxjax.training.distributed import writes
from sfxjax.training.figures import plot_learning_curves
from sfxjax.training.result_table import heading, kind_of_sets, print_next_step, published_dann, show_results
from sfxjax.training.scores import read_log
from sfxjax.training.step import LossConfig

RECIPE = TrainingConfig(objective=LossConfig(matched_classes=True))
SOURCE_ONLY = "source_only"
LEARNING_CURVES = "learning_curves.png"


def read_plans(
    arguments: Sequence[str] | None = None,
) -> tuple[dict[Path, RunConfig], dict[str, SetDescription]]:
    """Read the command line into the plans of both networks by their folders, DANN first."""
    parser = parser_for(
        "train.dann",
        "Train a domain-adversarial network: labels from the source, none from the target.",
        RECIPE,
        two_sets=True,
    )
    parser.add_argument(
        "--reduction", metavar="NAME", help="train the 1D CNN on reduced frames: a name, or file.py:function"
    )
    parser.add_argument(
        "--labels", type=int, help="of the source (default: the paper's training part, 1200 of 2000)"
    )
    parser.add_argument(
        "--strength",
        type=between(0, 1000, or_least=True),
        default=RECIPE.strength,
        help="of the gradient reversal",
    )
    chosen = parse(parser, arguments)
    (source, target), described = read_sets(chosen, chosen.source, chosen.target)
    reduction = None if chosen.reduction is None else read_reduction(chosen.reduction)
    recipe = read_recipe(chosen, RECIPE, reduction)
    plan = RunConfig(
        "dann", source, target, chosen.labels, reduction, recipe, data_of(described), chosen.frames
    )
    suffix = ("" if reduction is None else f"-{folder_name(reduction)}") + network_suffix(recipe)
    out = chosen.out or Path("runs") / f"dann-{source}-{target}{suffix}"
    alone = replace(plan, method="supervised" if reduction is None else "reduced", target=None)
    return {out: plan, out / SOURCE_ONLY: alone}, described


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    began = time.monotonic()
    plans, described = read_plans(arguments)
    check_before_reading(plans)
    (out, plan), (alone_out, alone) = plans.items()
    kind = jax.local_devices()[0].device_kind
    print(f"{plan.source} (labelled) -> {plan.target} (unlabelled), devices: {jax.device_count()} {kind}")
    sets = named_sets(plan, described)
    results = run(plan, sets, out)
    kind = kind_of_sets(results)
    simulated = f" ({kind})" if results["simulated"] else ""
    title = f"DANN {plan.source} -> {plan.target}{simulated}"
    if writes():
        plot_learning_curves(read_log(out), results["epoch_kept"], title, out / LEARNING_CURVES)
    before = run(alone, sets, alone_out)
    show_results(
        heading(plan, results),
        [
            ("DANN, no target label", results["tested"]),
            ("source-only network, same recipe", before["tested"]),
        ],
        published_dann(plan),
    )
    print(f"the label and domain classifiers by epoch: {out / LEARNING_CURVES}")
    print_next_step(out, plan, results, began)
