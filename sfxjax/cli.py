"""The installed command: `sfxjax screen`, `sfxjax train dann` and so on, each the same as its `python -m`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from sfxjax import __version__
from sfxjax.errors import UserError, called_as, run_main

# By the words on the command line: the module whose `main` it is, and what it does.
COMMANDS = {
    "screen": ("sfxjax.screen.__main__", "tell the hits of a run from its misses, and write lists of them"),
    "spots": ("sfxjax.screen.spots", "count the spots of every frame: no model to train, no labels"),
    "label": (
        "sfxjax.label.__main__",
        "label frames in the browser, and fit the day-one model to the labels",
    ),
    "live": (
        "sfxjax.live.__main__",
        "the hit rate of a stream, or of files being written, while the beam is on",
    ),
    "play": ("sfxjax.live.player", "stream the frames of a file as a detector would, to rehearse"),
    "train day_one": ("sfxjax.training.day_one", "train the network of `sfxjax spots`, from a seed"),
    "train dann": (
        "sfxjax.training.dann",
        "train for an unlabelled target by a gradient reversal (the paper's DANN)",
    ),
    "train adapt": ("sfxjax.training.adapt", "train for an unlabelled target by the recipe that did best"),
    "train supervised": ("sfxjax.training.supervised", "train the 2D CNN on labelled frames"),
    "train transfer": ("sfxjax.training.transfer", "carry a network to another set by a few labels"),
    "train reduced": ("sfxjax.training.reduced", "train the 1D CNN on reduced frames"),
    "simulate": ("sfxjax.simulate.command", "simulate a set of frames with labels"),
    "bench day_one": ("bench.day_one.__main__", "the day-one model on simulated conditions, one by one"),
    "bench live": (
        "bench.live.__main__",
        "live under load: rates, latency, memory, and where the frames are",
    ),
    "bench throughput": ("bench.throughput.__main__", "frames per second by stage, beside the paper's"),
    "bench scaling": ("bench.scaling", "what more cores and devices bring, and what a node would do"),
    "bench paper": ("bench.paper.__main__", "the paper's tables and figures, ours beside them, on one page"),
    "bench labels": ("bench.labels.__main__", "how many labels of a new set each method needs"),
    "bench reductions": ("bench.reductions.__main__", "reductions compared, yours too"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first words name; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    called_as("sfxjax")
    return run_main(lambda: _run_command(given))


def _run_command(given: list[str]) -> int | None:
    if given[:1] == ["--version"]:
        print(f"sfxjax {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help"):
        print(_help(list(COMMANDS)))
        return 0
    for words in (2, 1):
        name = " ".join(given[:words])
        if name in COMMANDS and len(given) >= words:
            called_as(f"sfxjax {name}")
            return _main_of(COMMANDS[name][0])(given[words:])
    group = [name for name in COMMANDS if name.startswith(f"{given[0]} ")]
    if group and (len(given) == 1 or given[1] in ("-h", "--help")):
        print(_help(group))
        return 0
    wanted = " ".join(given[:2]) if group else given[0]
    known = group or sorted({name.split()[0] for name in COMMANDS})
    near = difflib.get_close_matches(wanted, known, 1)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise UserError(f"no command {wanted!r}; {meant}")


def _main_of(module: str) -> Callable[[Sequence[str]], int | None]:
    """Import a command: an installed package holds `bench` as `sfxjax.bench`, a checkout beside it."""
    if module.startswith("bench.") and find_spec("sfxjax.bench") is not None:
        module = f"sfxjax.{module}"
    return import_module(module).main


def _help(names: list[str]) -> str:
    width = max(map(len, names))
    lines = [f"  sfxjax {name:{width}}  {COMMANDS[name][1]}" for name in names]
    return "\n".join(["usage: sfxjax COMMAND [OPTIONS]; each has --help", *lines, "  sfxjax --version"])


if __name__ == "__main__":
    sys.exit(main())
