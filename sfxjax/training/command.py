"""What the training commands share: their options, their sets, their progress and the table they end with."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax

from sfxjax.command_line import between, new_parser, read_seed, whole_in
from sfxjax.compilation import keep_compiled
from sfxjax.data.labels import UNLABELLED
from sfxjax.data.set_description import SetDescription, cxidb76_set
from sfxjax.data.sets import FrameSet
from sfxjax.data.splits import labelled_split
from sfxjax.devices import device_line
from sfxjax.models.stem import BaseConfig, plain_base
from sfxjax.processes import add_join_arguments, join_processes
from sfxjax.progress import progress
from sfxjax.reductions.user_code import load_reduction
from sfxjax.simulate.particles import PARTICLE_SETS
from sfxjax.simulate.write import simulated_data
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.data import PreparedSet, base_for, prepare, title
from sfxjax.training.loop import check_batch
from sfxjax.training.published import Pair
from sfxjax.training.result_table import heading, kind_of_sets, print_next_step, show_results
from sfxjax.training.run import total_steps, train_and_test
from sfxjax.training.run_folder import check_folder, finished

SIMULATED_FRAMES = 2000
# Largest values of options: above them a mistake is likelier than a machine that holds it.


def parser_for(
    program: str, description: str, recipe: TrainingConfig, *, two_sets: bool, networks: bool = True
) -> argparse.ArgumentParser:
    """Make a parser with the options that every training command has.

    Args:
        program: such as `train.dann`.
        description: for the help.
        recipe: whose values are the defaults.
        two_sets: whether the command takes a source and a target, or one data set.
        networks: whether it trains the plain network too.
    """
    parser = new_parser(program, description)
    if two_sets:
        parser.add_argument(
            "--source", required=True, metavar="SET", help="first set: LN83, LN84, LO19 or one of --set"
        )
        parser.add_argument("--target", required=True, metavar="SET", help="second set")
    else:
        parser.add_argument(
            "--dataset", required=True, metavar="SET", help="LN83, LN84, LO19 or one of --set"
        )
    parser.add_argument(
        "--data", metavar="DIR", help="folder of CXIDB 76; without it, its sets are simulated"
    )
    add_own_sets(parser)
    parser.add_argument(
        "--task",
        choices=("sfx", "spi"),
        default="sfx",
        help=f"sfx: frames with Bragg spots; spi: shots with one particle, simulated sets {', '.join(PARTICLE_SETS)} "
        "(default: sfx)",
    )
    parser.add_argument("--sets", metavar="FILE", help="TOML file with a table of such keys a set")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: under runs/)")
    parser.add_argument(
        "--frames",
        type=whole_in(1, 1_000_000),
        default=SIMULATED_FRAMES,
        help=f"of each simulated set (default: {SIMULATED_FRAMES})",
    )
    parser.add_argument(
        "--epochs", type=whole_in(1, 100_000), default=recipe.epochs, help=f"(default: {recipe.epochs})"
    )
    parser.add_argument(
        "--steps",
        type=whole_in(1, 1_000_000),
        default=recipe.steps_per_epoch,
        help=f"an epoch (default: {recipe.steps_per_epoch})",
    )
    parser.add_argument(
        "--batch",
        type=whole_in(1, 16_384),
        default=recipe.batch,
        help=f"frames a step (default: {recipe.batch})",
    )
    parser.add_argument(
        "--learning-rate", type=between(0, 10), default=recipe.learning_rate, help="of Adam at its peak"
    )
    parser.add_argument("--seed", type=read_seed, default=recipe.seed, help="of weights, batches and dropout")
    parser.add_argument(
        "--compilation-cache",
        action="store_true",
        help="keep compiled programs for the next time; JAX_COMPILATION_CACHE_DIR does so for every command",
    )
    if networks:
        parser.add_argument(
            "--network",
            choices=("spots", "plain"),
            default="spots",
            help="spots: finds and counts spots; plain: convolutions from the pixels on, as the paper's (default: spots)",
        )
        parser.add_argument(
            "--binning",
            type=int,
            default=4,
            help="of the frames that a plain network reads, pixels; 1: the paper's (default: 4, for two cores)",
        )
    together = parser.add_argument_group("several processes")
    add_join_arguments(
        together, "train one network with the other processes of jax.distributed, started by the same command"
    )
    return parser


def add_own_sets(parser: argparse.ArgumentParser) -> None:
    """Add the option for frames of one's own, whose values `sfxjax.data.set_description.sets_of_options` reads."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="append",
        default=[],
        metavar="NAME=FILES",
        help="frames of your own: NAME=FILE, more files, labels=FILE, mask=FILE[:PATH], dataset=PATH, geometry=FILE",
    )


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line, and join the other processes if it says so; process 0 alone speaks.

    Args:
        parser: from `parser_for`.
        arguments: of the command line.

    Raises:
        UserError: the others cannot be reached.
    """
    chosen = parser.parse_args(arguments)
    number, _ = join_processes(chosen)
    keep_compiled(chosen.compilation_cache)
    print(device_line())
    if number > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    return chosen


def read_recipe(chosen: argparse.Namespace, recipe: TrainingConfig, reduction: str | None) -> TrainingConfig:
    """Return the recipe that the options ask for.

    Args:
        chosen: options of `parser_for`.
        recipe: for what the options do not say.
        reduction: name of a reduction, or None for whole frames.

    Raises:
        UserError: a value is out of range.
    """
    base = plain_base(chosen.binning) if getattr(chosen, "network", "spots") == "plain" else recipe.base
    return replace(
        recipe,
        base=base_for(reduction, base),
        epochs=chosen.epochs,
        steps_per_epoch=chosen.steps,
        batch=chosen.batch,
        learning_rate=chosen.learning_rate,
        strength=getattr(chosen, "strength", recipe.strength),
        seed=chosen.seed,
    )


def read_reduction(name: str) -> str:
    """Return the full name of a reduction, loading it where it is `file.py:function`.

    Raises:
        UserError: there is none of that name, or it cannot be used.
    """
    return load_reduction(name)


@cache
def prepared_set(
    name: str,
    reductions: tuple[str | None, ...],
    described: SetDescription | None,
    frames: int,
    seed: int = 0,
    base: BaseConfig | None = None,
) -> PreparedSet:
    """Read and pre-process a set, with progress, once a process; simulate it first where it is not described.

    Args:
        name: of the set.
        reductions: names, and None for whole frames.
        described: where its frames are, or None for a simulated set.
        frames: of a simulated set.
        seed: of a simulated set's simulation.
        base: that is to read whole frames; by default the default base.
    """
    if described is None:
        described = cxidb76_set(simulated_data([name], frames, seed), name)
    with (
        FrameSet(described) as frame_set,
        progress(f"reading and pre-processing {title(frame_set)}", len(frame_set)) as advance,
    ):
        prepared = prepare(frame_set, reductions, base, advance=advance)
        notes = () if frame_set.simulated else frame_set.notes
    for note in notes:
        print(f"{prepared.title()}: {note}")
    labelled = len(prepared.labelled)
    if not labelled:
        print(f"{prepared.title()}: no labels, so it is not tested on")
    elif labelled < len(prepared):
        print(
            f"{prepared.title()}: {labelled} of {len(prepared)} frames have a label to train on or to test with"
        )
    return prepared


def prepared_sets(
    names: Sequence[str],
    reductions: tuple[str | None, ...],
    described: Mapping[str, SetDescription],
    frames: int,
    seed: int = 0,
    base: BaseConfig | None = None,
) -> dict[str, PreparedSet]:
    """Read and pre-process sets as `prepared_set` does, and say so, once, where they are simulated."""
    simulated = tuple(name for name in names if name not in described)
    if simulated:
        _say_simulated(frames, simulated if described else ())
    return {name: prepared_set(name, reductions, described.get(name), frames, seed, base) for name in names}


@cache
def _say_simulated(frames: int, names: tuple[str, ...]) -> None:
    which = f"simulated sets ({', '.join(names)})" if names else "simulated sets"
    print(f"no --data given: {which} of {frames} frames a set (the real ones have {SIMULATED_FRAMES})")


def data_of(described: Mapping[str, SetDescription]) -> dict[str, Any] | None:
    """Return what a plan records of sets that are not simulated; None where all are."""
    return {name: each.to_json() for name, each in described.items()} or None


def named_sets(
    plan: RunConfig, described: Mapping[str, SetDescription]
) -> Callable[[], dict[str, PreparedSet]]:
    """Return a function that gives the prepared sets of a plan, when and if they are needed."""
    base = plan.recipe.base if plan.recipe.base.plain else None
    if plan.labels is not None and plan.labelled in described:
        return lambda: _with_labels(plan, described, base)
    return partial(prepared_sets, plan.sets, (plan.reduction,), described, plan.frames, base=base)


def _with_labels(
    plan: RunConfig, described: Mapping[str, SetDescription], base: BaseConfig | None
) -> dict[str, PreparedSet]:
    """Prepare the sets of a plan, once its labels are known to be enough: reading the frames takes minutes."""
    with FrameSet(described[plan.labelled]) as labelled:
        labelled_split(plan.labels, int((labelled.labels != UNLABELLED).sum()))
    return prepared_sets(plan.sets, (plan.reduction,), described, plan.frames, base=base)


def network_suffix(recipe: TrainingConfig) -> str:
    """Return what a run's folder is called by, beside its method and sets: nothing for the default network."""
    return "-plain" if recipe.base.plain else ""


def run(plan: RunConfig, prepared: Callable[[], Mapping[str, PreparedSet]], out: Path) -> dict[str, Any]:
    """Do one run with progress; a finished one gives its results at once, and no frame is read.

    Args:
        plan: of the run.
        prepared: gives the prepared sets.
        out: the run's folder.
    """
    done = finished(plan, out)
    if done is not None:
        return done
    sets = prepared()
    simulated = [name for name, each in sets.items() if each.simulated]
    about = {"frames": dict.fromkeys(sets), "simulated": bool(simulated), "simulated_sets": simulated}
    what = f", {kind_of_sets(about)}" if simulated else ""
    with progress(f"training {plan.title()}{what}", total_steps(plan), "steps") as advance:
        return train_and_test(plan, sets, out, advance)


def train_one(
    plan: RunConfig,
    described: Mapping[str, SetDescription],
    out: Path,
    network: Callable[[Mapping[str, Any]], str],
    published: Sequence[tuple[str, Mapping[str, Pair]]] = (),
) -> None:
    """Do the only run of a command: train, show the results beside the paper's figures, and say the next step.

    Args:
        plan: of the run.
        described: the sets that are not simulated.
        out: the run's folder.
        network: names it by the results.
        published: title of a row of the paper's, and its figures by set.
    """
    began = time.monotonic()
    check_before_reading({out: plan})
    results = run(plan, named_sets(plan, described), out)
    show_results(heading(plan, results), [(network(results), results["tested"])], published)
    print_next_step(out, plan, results, began)


def check_before_reading(plans: Mapping[Path, RunConfig]) -> None:
    """Refuse what can be refused before any frame is read.

    Args:
        plans: of the runs, by their folders.

    Raises:
        UserError: a batch that the devices cannot share, a folder of another run, or more labels than a simulated set has.
    """
    for out, plan in plans.items():
        check_batch(plan.recipe.batch, jax.device_count())
        check_folder(out, plan)
        # The length of a set that is to be simulated is known.
        if plan.labelled not in (plan.data or {}):
            labelled_split(plan.labels, plan.frames)
