"""Train the 1D CNN on a reduction of labelled frames of one set (the paper's Table 4).

    python -m train.reduced --dataset LN83 --reduction rwd --labels 200

The reduction is one of the library's, or your own as `file.py:function`. The run leaves a model that `python -m sfxjax.screen
FILE --model runs/reduced-LN83-row_wise_decomposition-200 --out DIR` applies. A killed run goes on with the same command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfxjax.models.stem import BaseConfig
from sfxjax.training.chosen_sets import read_sets
from sfxjax.training.command import (
    data_of,
    network_suffix,
    parse,
    parser_for,
    read_recipe,
    read_reduction,
    train_one,
)
from sfxjax.training.config import RunConfig, TrainingConfig, folder_name
from sfxjax.training.published import TABLE_4

# Wider than the default base: a network on vectors costs next to nothing.
RECIPE = TrainingConfig(base=BaseConfig(dimensions=1, channels=(16, 32)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = parser_for(
        "train.reduced", "Train the 1D CNN on reduced frames of one set.", RECIPE, two_sets=False
    )
    parser.add_argument(
        "--reduction", default="rwd", metavar="NAME", help="or file.py:function (default: rwd)"
    )
    parser.add_argument("--labels", type=int, default=200, help="labelled training frames (default: 200)")
    chosen = parse(parser, arguments)
    (name,), described = read_sets(chosen, chosen.dataset)
    reduction = read_reduction(chosen.reduction)
    recipe = read_recipe(chosen, RECIPE, reduction)
    plan = RunConfig(
        "reduced", name, None, chosen.labels, reduction, recipe, data_of(described), chosen.frames
    )
    out = (
        chosen.out
        or Path("runs") / f"reduced-{name}-{folder_name(reduction)}-{chosen.labels}{network_suffix(recipe)}"
    )
    published = (
        [("paper, Table 4: RWD, 200 labels, real set", {name: TABLE_4[name]})] if name in TABLE_4 else []
    )
    train_one(plan, described, out, lambda _: f"{reduction}, {chosen.labels} labels", published)
