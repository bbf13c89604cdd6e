"""From a raw crop to what a network reads: the one path of screening, training and benchmarks.

The 2D CNN reads the largest and smallest value of each block, the 1D CNN a reduction. Where those of blocks or of rows are all
that is asked for, no normalised frame is made (`sfxjax.preprocess.tiled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from sfxjax.evaluation.domain_check import lattice_statistics
from sfxjax.models.stem import BaseConfig, finished_maps, stem
from sfxjax.preprocess.tiled import LATTICE_COLUMNS, LATTICE_ROWS, Part, normalize_parts
from sfxjax.preprocess.validity import Pixels
from sfxjax.reductions.registry import get_reduction, is_noise_filled
from sfxjax.reductions.row_wise import row_wise_decomposition


def base_for(reduction: str | None, base: BaseConfig | None = None) -> BaseConfig:
    """Return the shape of base that reads a reduction, or whole frames.

    Args:
        reduction: full name of a reduction, or None for whole frames.
        base: what to change its dimensions of; by default the default base.
    """
    base = base or BaseConfig()
    if reduction is None:
        return replace(base, dimensions=2)
    return replace(base, dimensions=1, noise_normalised=base.noise_normalised and is_noise_filled(reduction))


def network_inputs(
    pixels: Pixels, reductions: Sequence[str | None], base: BaseConfig
) -> tuple[list[jax.Array], jax.Array]:
    """Normalise a crop and keep what networks read of it.

    Args:
        pixels: of the crop, (724, 724).
        reductions: names, and None for whole frames.
        base: that whole frames are for.

    Returns:
        For each of `reductions` what `finish_inputs` takes; and (6,) statistics, see `sfxjax.evaluation.domain_check`.
    """
    blocks = base.stem == "block_extrema"
    by_rows = {name for name in reductions if name and get_reduction(name) is row_wise_decomposition}
    in_tiles = {*by_rows, None} if blocks else by_rows
    parts: list[Part] = ["rows"]
    if None in reductions and blocks:
        parts.append("blocks")
    whole = not in_tiles.issuperset(reductions)
    parts += ["frame", "window_valid"] if whole else ["lattice"]
    found = dict(
        zip(parts, normalize_parts(pixels, tuple(parts), block=base.block, spot=base.spot), strict=True)
    )
    lattice = (
        (found["frame"][::LATTICE_ROWS], found["frame"][:, ::LATTICE_COLUMNS]) if whole else found["lattice"]
    )

    def read(name: str | None) -> jax.Array:
        if name in by_rows:
            return found["rows"]
        if name is None:
            return found["blocks"] if blocks else found["frame"]
        return get_reduction(name)(found["frame"], found["window_valid"])

    return [read(name) for name in reductions], lattice_statistics(found["rows"], *lattice)


def finish_inputs(values: jax.Array, config: BaseConfig) -> jax.Array:
    """Make maps of what `network_inputs` gave of a batch of crops.

    Args:
        values: (n, ...).
        config: the base that reads them.

    Returns:
        (n, ..., channels) float32, as `sfxjax.models.stem.stem` gives them.
    """
    if config.dimensions == 2 and config.stem == "block_extrema":
        return finished_maps(values.astype(jnp.float32), config)
    return stem(values, config)
