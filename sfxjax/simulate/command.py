"""Write simulated sets, or say what is simulated: `python -m sfxjax.simulate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfxjax.command_line import new_parser, read_seed
from sfxjax.simulate.artefacts import LIGHT, READING
from sfxjax.simulate.cache import clean, user_cache_folder
from sfxjax.simulate.conditions import DETECTORS, GAPS
from sfxjax.simulate.parameters import SIMULATED_SETS
from sfxjax.simulate.particles import PARTICLE_SETS
from sfxjax.simulate.write import simulate_set


def simulated_things() -> list[str]:
    """Return, in lines, the simulated sets, and the parts that frames of the wide simulation are drawn of."""

    def parts(heading: str, of: Mapping[str, Any]) -> list[str]:
        width = max(map(len, of))
        return [
            "",
            heading,
            *(f"  {name:<{width}}  {(part.__doc__ or '').splitlines()[0]}" for name, part in of.items()),
        ]

    return [
        f"sets in CXIDB 76's layout (sfxjax simulate SET): {', '.join(SIMULATED_SETS)}",
        f"sets of single particles (sfxjax train ... --task spi): {', '.join(PARTICLE_SETS)}",
        "",
        "the wide simulation that the day-one model learns from (sfxjax train day_one), drawn at random for each run or frame:",
        f"  detectors: {', '.join(DETECTORS)}",
        f"  gaps hold: {', '.join(GAPS)}",
        *parts("artefacts of light, before it is detected:", LIGHT),
        *parts("artefacts of reading:", READING),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = new_parser(
        "sfxjax.simulate", "Write a simulated set in CXIDB 76's layout: frames, labels, mask and truth."
    )
    parser.add_argument("name", metavar="SET", nargs="?", help=f"one of {', '.join(SIMULATED_SETS)}")
    parser.add_argument(
        "--clean", action="store_true", help="remove the simulated sets that other commands keep in the cache"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="say what is simulated: the sets, and the parts of the wide simulation",
    )
    parser.add_argument("--frames", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the set becomes DIR/SET")
    parser.add_argument("--full", action="store_true", help="1920x1920 pixels, not the central 724x724")
    parser.add_argument("--seed", type=read_seed, default=0, help="of the run (default: 0)")
    parser.add_argument("--batch", type=int, default=32, help="frames simulated at once (default: 32)")
    parser.add_argument("--compression", choices=("none", "bitshuffle", "gzip"), default="none")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        if chosen.given != {"list"}:
            parser.error("--list names what is simulated; give it alone")
        print("\n".join(simulated_things()))
        return
    if chosen.clean and chosen.given != {"clean"}:
        parser.error("--clean removes sets of the cache; give it alone")
    if chosen.clean:
        count, size = clean()
        folders = "1 folder" if count == 1 else f"{count} folders"
        print(f"removed {folders} of simulated sets, {size / 1e9:.1f} GB, from {user_cache_folder()}")
        return
    if chosen.name is None or chosen.out is None:
        parser.error("name a SET and its folder by --out, or give --list or --clean")
    folder = simulate_set(
        chosen.name.upper(),
        chosen.out,
        chosen.frames,
        chosen.seed,
        full=chosen.full,
        batch=chosen.batch,
        compression=None if chosen.compression == "none" else chosen.compression,
    )
    print(f"wrote {folder}: {chosen.frames} frames, simulated set")
