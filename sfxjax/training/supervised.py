"""Train the 2D CNN on labelled frames of one set (the paper's Tables 1 and 2).

    python -m train.supervised --dataset LN83 --labels 1200

trains on the first frames of the set, tests on the frames that the paper's split leaves for it, and leaves a model that
`python -m sfxjax.screen FILE --model runs/supervised-LN83-1200 --out DIR` applies. A killed run goes on with the same command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfxjax.training.chosen_sets import read_sets
from sfxjax.training.command import data_of, network_suffix, parse, parser_for, read_recipe, train_one
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.published import TABLE_1, TABLE_2

RECIPE = TrainingConfig()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = parser_for(
        "train.supervised", "Train the 2D CNN on labelled frames of one set.", RECIPE, two_sets=False
    )
    parser.add_argument(
        "--labels",
        type=int,
        help="labelled training frames (default: all of the paper's training part, 1200 of 2000)",
    )
    chosen = parse(parser, arguments)
    (name,), described = read_sets(chosen, chosen.dataset)
    recipe = read_recipe(chosen, RECIPE, None)
    plan = RunConfig("supervised", name, None, chosen.labels, None, recipe, data_of(described), chosen.frames)
    out = chosen.out or Path("runs") / f"supervised-{name}-{chosen.labels or 'all'}{network_suffix(recipe)}"
    published = [
        (f"paper, Table {number}: {labels} labels, real set", {name: figures})
        for number, labels, figures in ((1, 1200, TABLE_1.get((name, name))), (2, 200, TABLE_2.get(name)))
        if figures is not None
    ]
    train_one(plan, described, out, lambda results: f"{results['labels']} labels", published)
