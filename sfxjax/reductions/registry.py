"""Which reductions there are, by name.

`REDUCTIONS` holds the built-in ones from the start. An installed package adds its own by an entry point of the group
`sfxjax.reductions`,

    [project.entry-points."sfxjax.reductions"]
    ring_maxima = "my_package:ring_maxima"

which is loaded and checked when its name is first asked for. `sfxjax.reductions.user_code` adds those of a user's file.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import jax
import jax.numpy as jnp

from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.reductions.block_maxima import block_maxima
from sfxjax.reductions.brightest_pixels import brightest_pixels
from sfxjax.reductions.check import checked_reduction, one_line
from sfxjax.reductions.definition import Reduction
from sfxjax.reductions.local_maxima import local_maximum_counts
from sfxjax.reductions.radial import radial_extremes
from sfxjax.reductions.row_wise import (
    column_wise_decomposition,
    row_and_column_decomposition,
    row_wise_decomposition,
)
from sfxjax.reductions.spot_counts import soft_spot_counts, spot_signal_to_noise

ENTRY_POINTS = "sfxjax.reductions"
REDUCTIONS: dict[str, Reduction] = {
    reduction.__name__: reduction
    for reduction in (
        row_wise_decomposition,
        column_wise_decomposition,
        row_and_column_decomposition,
        radial_extremes,
        block_maxima,
        brightest_pixels,
        local_maximum_counts,
        spot_signal_to_noise,
        soft_spot_counts,
    )
}
BUILT_IN = tuple(REDUCTIONS)
ALIASES = {"rwd": "row_wise_decomposition", "cwd": "column_wise_decomposition"}
# Where the loaded ones that are not built in come from, see `origin_of`.
ORIGINS: dict[str, dict[str, str]] = {}


def canonical_name(name: str) -> str:
    """Return the full name of a reduction given by a short one, such as "rwd"; any other name as it is."""
    return ALIASES.get(name, name)


def get_reduction(name: str) -> Reduction:
    """Return the reduction of that name, loading it where an installed package has it.

    Args:
        name: a key of `REDUCTIONS` or of `ALIASES`, or the name of an entry point.

    Raises:
        UserError: there is none, and the message lists the known names; or the package's cannot be used.
    """
    name = canonical_name(name)
    if name not in REDUCTIONS:
        entry = _entry_point(name)
        assert entry.dist is not None
        try:
            function = entry.load()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"the reduction {name} of the package {entry.dist.name} cannot be imported ({one_line(error)})"
            ) from error
        register(name, function, {"package": entry.dist.name, "version": entry.dist.version})
    return REDUCTIONS[name]


def register(name: str, function: Any, origin: dict[str, str]) -> None:
    """Check a function from elsewhere and enter it in `REDUCTIONS`.

    Args:
        name: under which it is found.
        function: as `sfxjax.reductions.check.checked_reduction` takes it.
        origin: see `origin_of`.

    Raises:
        UserError: as `checked_reduction`.
    """
    REDUCTIONS[name], ORIGINS[name] = checked_reduction(function, name), origin


def is_known(name: str) -> bool:
    """Tell whether `get_reduction` finds a reduction of that name."""
    name = canonical_name(name)
    return name in REDUCTIONS or name in entry_points(group=ENTRY_POINTS).names


def origin_of(name: str | None) -> dict[str, str] | None:
    """Return where a loaded reduction comes from.

    Args:
        name: as it was loaded, or None for whole frames.

    Returns:
        `function` and `sha256`, of the file, for a user's code; `package` and `version`; or None for a built-in reduction.
    """
    return ORIGINS.get(name) if name else None


def is_noise_filled(name: str | None) -> bool:
    """Tell whether most values of a reduction are noise, as `sfxjax.reductions.definition.noise_filled` marks it.

    Args:
        name: as for `get_reduction`; None, which stands for whole frames, is not.

    Raises:
        UserError: as `get_reduction`.
    """
    return name is not None and getattr(get_reduction(name), "noise_filled", False)


def reduced_shape(name: str) -> tuple[int, ...]:
    """Return the shape of a reduced 720 x 720 frame, (length,) or (length, channels), by tracing.

    Args:
        name: as for `get_reduction`.

    Raises:
        UserError: as `get_reduction`.
    """
    reduction = get_reduction(name)
    frame = jax.ShapeDtypeStruct((FRAME, FRAME), jnp.float32)
    return jax.eval_shape(lambda frame: reduction(frame, None), frame).shape


def _entry_point(name: str) -> EntryPoint:
    if ":" in name:
        raise UserError(
            f"the reduction {name!r} is not loaded; call sfxjax.reductions.user_code.load_reduction first"
        )
    offered = entry_points(group=ENTRY_POINTS)
    found = offered.select(name=name)
    if not found:
        known = ", ".join([*BUILT_IN, *sorted(offered.names)])
        raise UserError(
            f"unknown reduction {name!r}; choose one of: {known}; or give your own as file.py:function"
        )
    if len(found) > 1:
        packages = ", ".join(sorted(entry.dist.name for entry in found if entry.dist))
        raise UserError(f"several packages have a reduction {name}: {packages}; uninstall all but one")
    (entry,) = found
    return entry
