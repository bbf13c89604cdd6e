"""Screen a run: python -m sfxjax.screen FILE... --model runs/NAME --out FOLDER. See --help."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

from sfxjax.command_line import new_parser, refuse_unused, whole_in
from sfxjax.errors import UserError, run_main
from sfxjax.processes import add_join_arguments, check_alone, join_processes
from sfxjax.screen.options import (
    ScreenTask,
    add_frame_arguments,
    add_overwrite,
    add_readers,
    add_spot_arguments,
    options_of_frames,
)
from sfxjax.spots.recalibration import FILE

# Options that mean nothing when a model is given, and when none is.
SPOTS_ONLY = ("min_snr", "min_spots")
MODEL_ONLY = (
    "reduction",
    "threshold",
    "recall",
    "beam_centre",
    "batch_size",
    "distributed",
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(
        "sfxjax.screen",
        "Tell the hits of a run from its misses and write lists of them. Without --model nothing is trained.",
        epilog="Exit status: 0; 1 if frames could not be screened, which frames.csv names; 2 with a line if there are none; "
        "70 after a fault of the program; 130 after Ctrl-C.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, folders or quoted patterns")
    parser.add_argument(
        "--model",
        help="trained model, such as runs/dann-LN83-LO19, or folder of `sfxjax label`; without one spots are counted",
    )
    parser.add_argument(
        "--reduction",
        metavar="FILE.py:FUNCTION",
        help="run this code of your own, for a model that was trained on its vectors",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for everything written")
    read = parser.add_argument_group("frames")
    add_frame_arguments(read)
    read.add_argument(
        "--beam-centre", type=_beam_centre, metavar="X,Y", help="pixel on which the crop is centred"
    )
    decide = parser.add_argument_group("decision")
    either = decide.add_mutually_exclusive_group()
    either.add_argument(
        "--threshold", type=float, help="score from which a frame is a hit (by default the model's)"
    )
    add_spot_arguments(parser.add_argument_group("decision without --model"))
    either.add_argument(
        "--recall",
        type=float,
        metavar="R",
        help="keep at least this share of the positives, such as 0.99, with 95 %% confidence",
    )
    write = parser.add_argument_group("output")
    write.add_argument("--write-hits", action="store_true", help="also write hits.cxi, the hits' own pixels")
    write.add_argument("--no-report", action="store_true", help="write neither report.html nor mean images")
    add_overwrite(write)
    read.add_argument(
        "--follow",
        type=_seconds,
        nargs="?",
        const=60.0,
        metavar="S",
        help="the files are still being written: go on until nothing has come for S seconds (60)",
    )
    work = parser.add_argument_group("speed")
    work.add_argument("--batch-size", type=whole_in(1, 65536), metavar="N", help="frames scored at once")
    add_readers(work)
    work.add_argument(
        "--compilation-cache",
        action="store_true",
        help="keep compiled programs for the next time; JAX_COMPILATION_CACHE_DIR does so for every command",
    )
    add_join_arguments(
        work, "share the files with the other processes of jax.distributed, started by the same command"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Screen what the command line names; returns the exit status."""
    options = parse_arguments(arguments)
    check_alone(options)
    # A folder of `sfxjax label` holds the day-one model, fitted to labels: spots are counted as without a model.
    of_labels = options.model is not None and (Path(options.model) / FILE).is_file()
    if of_labels:
        refuse_unused(options, MODEL_ONLY, "with the model of a labelling, since spots are counted")
    elif options.model:
        refuse_unused(options, SPOTS_ONLY, "with --model")
    else:
        refuse_unused(options, MODEL_ONLY, "without --model, since spots are counted")
    # Imported late: the processes that read import this module too, and need neither JAX nor these.
    if not options.model or of_labels:
        from sfxjax.screen.spots import count_as_told

        return count_as_told(options)
    from sfxjax.screen.command import screen_run

    if options.distributed and options.follow is not None:
        raise UserError("--follow and --distributed do not go together; follow the files with one process")
    names = {each.name for each in fields(ScreenTask)} & vars(options).keys()
    task = ScreenTask(
        read=options_of_frames(options, centre=options.beam_centre),
        report=not options.no_report,
        **{name: getattr(options, name) for name in names},
    )
    return screen_run(task, partial(join_processes, options))


def _beam_centre(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise argparse.ArgumentTypeError(f"{text!r} is no place such as 960.5,958.2")
    return x, y


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


if __name__ == "__main__":
    sys.exit(run_main(main))
