"""Transfer learning: a base trained on one set, a few labels of another (the paper's Fig. 3 and Table 3).

    python -m train.transfer --source LN83 --target LO19 --labels 200

trains the source's network first, unless `--base RUN` names one. Then, on labels of the target: the base rests, its batch
statistics too, while a fresh classifier learns; then all but the lowest block move. A killed run goes on with the same command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sfxjax.command_line import refuse_unused
from sfxjax.data.labels import MISS, UNLABELLED
from sfxjax.training.chosen_sets import read_sets
from sfxjax.training.command import (
    check_before_reading,
    data_of,
    named_sets,
    network_suffix,
    parse,
    parser_for,
    read_recipe,
    run,
)
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.evaluation import summarize
from sfxjax.training.published import TABLE_3
from sfxjax.training.result_table import heading, print_next_step, show_results
from sfxjax.training.run import base_variables
from sfxjax.training.run_folder import SCORES_FILE
from sfxjax.training.scores import read_scores

RECIPE = TrainingConfig(epochs=10)
BASE_RECIPE = TrainingConfig()
BASE_FOLDER = "base"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    began = time.monotonic()
    parser = parser_for("train.transfer", "Carry a base from one set to another.", RECIPE, two_sets=True)
    parser.add_argument(
        "--labels", type=int, default=200, help="labelled frames of the target (default: 200)"
    )
    parser.add_argument(
        "--base-labels",
        type=int,
        help="of the source's network (default: the paper's training part, 1200 of 2000)",
    )
    parser.add_argument("--base", metavar="RUN", help="run with the source's network (default: train one)")
    chosen = parse(parser, arguments)
    if chosen.base:
        refuse_unused(chosen, ("base_labels",), "with --base, since no network of the source is trained")
    (source, target), described = read_sets(chosen, chosen.source, chosen.target)
    recipe = read_recipe(chosen, RECIPE, None)
    out = chosen.out or Path("runs") / f"transfer-{source}-{target}-{chosen.labels}{network_suffix(recipe)}"
    base = Path(chosen.base) if chosen.base else out / BASE_FOLDER
    data = data_of(described)
    plan = RunConfig(
        "transfer", source, target, chosen.labels, None, recipe, data, chosen.frames, base=str(base)
    )
    plans = {out: plan}
    if not chosen.base:
        base_recipe = read_recipe(chosen, BASE_RECIPE, None)
        plans[base] = RunConfig(
            "supervised", source, None, chosen.base_labels, None, base_recipe, data, chosen.frames
        )
    check_before_reading(plans)
    if chosen.base:
        base_variables(plan)
    sets = named_sets(plan, described)
    rows = []
    if not chosen.base:
        run(plans[base], sets, base)
    results = run(plan, sets, out)
    only_target = {target: results["tested"][target]}
    if not chosen.base:
        first = only_target[target]["first_frame"]
        scores, labels = (values[first:] for values in read_scores(base / SCORES_FILE)[target])
        known = labels != UNLABELLED
        untouched = {"first_frame": first} | summarize(labels[known] != MISS, scores[known])
        rows.append((f"2D CNN of {source}, carried over untouched", {target: untouched}))
    rows.append((f"transfer, {chosen.labels} labels of {target}", only_target))
    figures = TABLE_3.get((source, target))
    show_results(
        heading(plan, results),
        rows,
        [] if figures is None else [("paper, Table 3: 200 labels, real sets", {target: figures})],
    )
    print_next_step(out, plan, results, began)
