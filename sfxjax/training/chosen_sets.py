"""Which sets a training command's options name, and whether all that they say of sets is about those."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from sfxjax.command_line import refuse_unused
from sfxjax.data.set_description import SetDescription, cxidb76_name, cxidb76_set, sets_of_options
from sfxjax.errors import UserError
from sfxjax.simulate.particles import particle_set


def read_sets(chosen: argparse.Namespace, *names: str) -> tuple[tuple[str, ...], dict[str, SetDescription]]:
    """Return the names of sets as the library writes them, and those that the options describe.

    Raises:
        UserError: there is no such set, or two are the same.
    """
    described = sets_of_options(chosen.set, chosen.sets)
    own = dict(described)
    if chosen.task == "spi":
        if chosen.data is not None:
            raise UserError(
                "--data names CXIDB 76, which has no single particles; name your own frames with --set"
            )
        names = tuple(name if name in own else name.upper() for name in names)
        for name in set(names) - set(own):
            own[name] = particle_set(name, chosen.frames)
    known = tuple(name if name in own else cxidb76_name(name, tuple(own)) for name in names)
    if len(set(known)) < len(known):
        raise UserError("--source and --target are the same set; name two")
    _check_used(chosen, known, described)
    for name in known:
        if name not in own and chosen.data is not None:
            own[name] = cxidb76_set(chosen.data, name)
    return known, {name: own[name] for name in known if name in own}


def _check_used(chosen: argparse.Namespace, names: Sequence[str], own: Mapping[str, SetDescription]) -> None:
    """Refuse sets that were described and are not named, and options about other sets than those named."""
    unnamed = [values[0].partition("=")[0] for values in chosen.set]
    for name in unnamed:
        if name not in names:
            raise UserError(f"--set {name} is not used: the sets named are {' and '.join(names)}")
    if chosen.sets is not None and not set(own) & set(names):
        refuse_unused(chosen, ("sets",), f"on {' and '.join(names)}, which it does not describe")
    if set(names) <= set(own):
        refuse_unused(chosen, ("data", "frames"), "on sets of your own")
    elif chosen.data is not None:
        refuse_unused(chosen, ("frames",), "with --data, since no set is simulated")
    if getattr(chosen, "network", "spots") != "plain":
        refuse_unused(chosen, ("binning",), "without --network plain")
