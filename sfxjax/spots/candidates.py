"""Where in a whole frame a spot may be: the strongest place of each block of 8 x 8 pixels, in units of the frame's own noise.

1. Pixels that tell nothing take the level around them: between the middles of blocks of 24 x 24 the means of the live
   ones, the median of nine blocks each, so that a slope goes on in a gap and a bright spot does not fill it.
2. The response of a place is the sum of its 3 x 3 pixels less what the 40 pixels around these, of 7 x 7, would give: an
   even background or a slope gives none.
3. Its noise is 1.2533 times the mean size of the response in the block of 24 x 24, the median of the nine blocks around
   it. Where photons are counted it is at least what Poisson statistics give for the mean.
4. Signal-to-noise: with g the value of one photon, s = response / g and l = (noise / g)^2, it is
   sqrt(2 ((l + s) ln(1 + s / l) - s)), the significance of l + s counts where l are expected (Li & Ma, Astrophys. J.
   272:317 (1983), with a background known well). It is response / noise where there is much background, and less where
   few photons are counted, by as much as chance gives more there.
5. Where spots crowd, they make most of that noise. So, once it is known which places are spots, noise, mean and g are measured
   again without the pixels that these reach, and with them the ratios, which then count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.fusion import fusion_barrier
from sfxjax.mapping import map_leading, on_cpu
from sfxjax.order import highest_of_each
from sfxjax.spots.block_noise import (
    RESPONSE_VARIANCE,
    SUM_CELL,
    Cells,
    block_levels,
    in_blocks,
    noise_of_blocks,
    significance,
    without_spots,
)
from sfxjax.spots.frame_pixels import MARGIN, NOISE_BLOCK, FramePixels
from sfxjax.spots.signal_to_noise import windows
from sfxjax.spots.stored_type import never

BLOCK = 8
CANDIDATES = 384
PATCH = 13
CONTEXT = 9
HIGHEST = (1, 2, 3, 5, 8, 13, 21, 34)
# Places closer than this many pixels are one.
SAME_SPOT = 4.0
# Standard deviation of the window in which a spot's centre is found, pixels, and how often it moves.
CENTROID_WINDOW = 1.3
WINDOW_STEPS = 4
_REACH = 3
RING_SHARE = 9 / 40
_PLACE = (np.arange(NOISE_BLOCK + 2 * _REACH) - _REACH + 0.5) / NOISE_BLOCK - 0.5
# Weights of the levels of the block before, a block and the one after, at its rows and those within reach of them.
_BETWEEN_ROWS = np.stack([-_PLACE.clip(None, 0), 1 - np.abs(_PLACE), _PLACE.clip(0)], 1).astype(np.float32)


class Measured(NamedTuple):
    """What the ratios of candidates come from.

    Attributes:
        response: (n,) of the candidates, in their order, detector units.
        row: (n,) of the block of 24 x 24 pixels that each is in.
        column: (n,) likewise.
        cells: sums over the frame's pixels.
    """

    response: jax.Array
    row: jax.Array
    column: jax.Array
    cells: Cells


class Candidates(NamedTuple):
    """The strongest places of a frame, (n,) each unless stated, by falling signal-to-noise.

    Attributes:
        ss: row of the centroid, pixels.
        fs: column of the centroid.
        signal_to_noise: as the module's text says; 0 where there are no more.
        signal: sum over 3 x 3 pixels above the background, detector units.
        patch: (n, 13, 13) pixels around it above the background in units of the pixels' noise, 0 where they tell nothing.
        live: (n, 13, 13) bool.
        context: (n, 9, 9) signal-to-noise of the blocks around.
        highest: (n, 9) of these the second, third, fourth ... highest, at the places `HIGHEST`, and their median.
        scalars: (n, 6): counts of the background, noise over Poisson's, live share around, typical response around,
            noise here over that of the nine blocks, contrast to the background.
    """

    ss: jax.Array
    fs: jax.Array
    signal_to_noise: jax.Array
    signal: jax.Array
    patch: jax.Array
    live: jax.Array
    context: jax.Array
    highest: jax.Array
    scalars: jax.Array


@jax.jit
def find_candidates(pixels: FramePixels) -> Candidates:
    """Find the places of a frame that may be spots: `CANDIDATES`, or as many as it has blocks."""
    return candidates_and_noise(pixels)[0]


def ratio_without_spots(
    found: Candidates, measured: Measured, spots: jax.Array, pixels: FramePixels
) -> jax.Array:
    """Return the candidates' signal-to-noise ratios in the noise that is left without the light of spots, (n,).

    Args:
        found: of `candidates_and_noise`.
        measured: likewise.
        spots: bool (n,), which candidates are spots.
        pixels: of the frame.
    """
    left = without_spots(measured.cells, found.ss, found.fs, spots & (found.signal_to_noise > 0))
    again = noise_of_blocks(left, pixels.counting, pixels.integers)
    ratio = significance(measured.response, again.noise[measured.row, measured.column], again.photon)
    return jnp.where(found.signal_to_noise > 0, ratio, 0)


def candidates_and_noise(pixels: FramePixels) -> tuple[Candidates, Measured]:
    """Find candidates as `find_candidates` does, and tell what their ratios come from."""
    rows, columns = ((length - 2 * MARGIN) // NOISE_BLOCK for length in pixels.values.shape)
    width = columns * NOISE_BLOCK
    count = min(CANDIDATES, rows * columns * (NOISE_BLOCK // BLOCK) ** 2)
    integers, counting = pixels.integers, pixels.counting

    def read(cut: Callable[[jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Cut a part out: its values as float32, and which of them count."""
        stored = cut(jnp.asarray(pixels.values))
        x = stored.astype(jnp.float32)
        floating = jnp.issubdtype(stored.dtype, jnp.floating)
        live = jnp.isfinite(x) if floating else stored != never(stored.dtype)
        for place in range(pixels.invalid.shape[0]):
            live &= x != pixels.invalid[place]
        return x, live

    def strip(place: jax.Array, margin: int) -> tuple[jax.Array, jax.Array]:
        start = MARGIN - margin + place * NOISE_BLOCK, MARGIN - margin
        return read(lambda a: jax.lax.dynamic_slice(a, start, (NOISE_BLOCK + 2 * margin, width + 2 * margin)))

    def moments(place: jax.Array) -> jax.Array:
        x, live = strip(place, 0)
        return jnp.stack([in_cells(live.astype(jnp.float32)), in_cells(jnp.where(live, x, 0))])

    def in_cells(strip: jax.Array) -> jax.Array:
        # Row by row: a CPU adds many columns at a time.
        of_rows = [_over_rows(jnp.add, strip[k : k + SUM_CELL]) for k in range(0, NOISE_BLOCK, SUM_CELL)]
        return jnp.stack(of_rows).reshape(len(of_rows), width // SUM_CELL, SUM_CELL).sum(2)

    sums = map_leading(moments, jnp.arange(rows))
    live_cells, total_cells = (sums[:, k].reshape(-1, width // SUM_CELL) for k in (0, 1))
    live, total = in_blocks(live_cells), in_blocks(total_cells)
    mean, level, around = block_levels(total, live)
    usual = total.sum() / jnp.maximum(live.sum(), 1)
    levels = _between_columns(jnp.where(jnp.isnan(level), mean, level) - usual)
    # Not known to the compiler to hold.
    true = jnp.isfinite(total[0, 0]) if on_cpu() else None

    def respond(place: jax.Array) -> tuple[jax.Array, jax.Array]:
        three_levels = jax.lax.dynamic_slice_in_dim(levels, place, 3)

        def load() -> jax.Array:
            x, live = strip(place, _REACH)
            return jnp.where(live, x - usual, jnp.asarray(_BETWEEN_ROWS) @ three_levels)

        x = fusion_barrier(true, load)

        def down(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            n = NOISE_BLOCK
            three = x[2 : 2 + n] + x[3 : 3 + n] + x[4 : 4 + n]
            return three, three + x[0:n] + x[1 : 1 + n] + x[5 : 5 + n] + x[6 : 6 + n]

        three, seven = fusion_barrier(true, down, x)

        def across(three: jax.Array, seven: jax.Array) -> jax.Array:
            inner = three[:, 2 : 2 + width] + three[:, 3 : 3 + width] + three[:, 4 : 4 + width]
            outer = sum(seven[:, k : k + width] for k in range(7))
            return (1 + RING_SHARE) * inner - RING_SHARE * outer

        response = fusion_barrier(true, across, three, seven)
        n = NOISE_BLOCK // BLOCK

        def gather(response: jax.Array) -> tuple[jax.Array, jax.Array]:
            blocks = [_over_rows(jnp.maximum, response[BLOCK * k : BLOCK * (k + 1)]) for k in range(n)]
            size = [
                _over_rows(jnp.add, jnp.abs(response[k : k + SUM_CELL]))
                for k in range(0, NOISE_BLOCK, SUM_CELL)
            ]
            return jnp.stack(blocks), jnp.stack(size)

        rows_highest, rows_size = fusion_barrier(true, gather, response)
        highest = rows_highest.reshape(n, width // BLOCK, BLOCK).max(2)
        size = rows_size.reshape(NOISE_BLOCK // SUM_CELL, width // SUM_CELL, SUM_CELL).sum(2)
        return highest, size

    def in_fine(blocks: jax.Array) -> jax.Array:
        return jnp.repeat(jnp.repeat(blocks, NOISE_BLOCK // BLOCK, 0), NOISE_BLOCK // BLOCK, 1)

    highest, size_cells = map_leading(respond, jnp.arange(rows))
    cells = Cells(live_cells, total_cells, size_cells.reshape(-1, width // SUM_CELL))
    highest = jnp.where(in_fine(live) > 0, highest.reshape(rows * 3, columns * 3), 0)
    mean, own, noise, photon = noise_of_blocks(cells, counting, integers)
    ratio = significance(highest, in_fine(noise), photon)
    best, block = jax.lax.top_k(ratio.reshape(-1), count)
    bs, bf = block // (columns * 3), block % (columns * 3)

    context = windows(jnp.pad(ratio, CONTEXT // 2), bs, bf, CONTEXT)
    highest_around = highest_of_each(context.reshape(count, -1), (*HIGHEST, CONTEXT**2 // 2))
    half = PATCH // 2
    edge, start = BLOCK + 2 * half, MARGIN - half
    wide, alive = read(lambda a: windows(a, bs * BLOCK + start, bf * BLOCK + start, edge))
    here_mean, here_noise, here_own = (a[bs // 3, bf // 3] for a in (mean, noise, jnp.nan_to_num(own)))
    x = jnp.where(alive, wide - here_mean[:, None, None], 0)
    middle = _place_of_highest(x)
    ss0, fs0 = middle // BLOCK, middle % BLOCK

    def cut(array: jax.Array) -> jax.Array:
        def one(a: jax.Array, s: jax.Array, f: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(a, (s, f), (PATCH, PATCH))

        return jax.vmap(one)(array, ss0, fs0)

    patch, live_patch = cut(x), cut(alive)
    away = jnp.maximum(jnp.abs(jnp.arange(PATCH) - half)[:, None], jnp.abs(jnp.arange(PATCH) - half))
    ring = live_patch & (away >= 3) & (away <= 5)
    background = jnp.sum(jnp.where(ring, patch, 0), (1, 2)) / jnp.maximum(ring.sum((1, 2)), 1)
    patch = jnp.where(live_patch, patch - background[:, None, None], 0)
    dss, dfs = _centroids(patch)
    signal = jnp.sum(jnp.where(away <= 1, patch, 0), (1, 2))
    per_pixel = here_noise / jnp.sqrt(RESPONSE_VARIANCE)
    counts = jnp.maximum(here_mean + background, 0) / photon
    scalars = jnp.stack(
        [
            jnp.log10((here_noise / photon) ** 2 + 0.1),
            jnp.log(here_noise / jnp.sqrt(RESPONSE_VARIANCE * jnp.maximum(counts, 0.01)) / photon),
            around[bs // 3, bf // 3],
            highest_around[:, -1] / 3,
            jnp.log((here_own + 0.1 * here_noise) / here_noise),
            background / per_pixel / 5,
        ],
        -1,
    )
    ss, fs = bs * BLOCK + ss0 + dss, bf * BLOCK + fs0 + dfs
    # A spot on the border of two blocks is found in both: the stronger counts, of equals the first.
    close = jnp.hypot(ss[:, None] - ss, fs[:, None] - fs) < SAME_SPOT
    doubled = jnp.any(close & (jnp.arange(count)[:, None] > jnp.arange(count)), axis=1)
    seen = live_patch[:, half - 1 : half + 2, half - 1 : half + 2].any((1, 2))
    own_ratio = jnp.where(doubled | ~seen, 0, best)
    order = jnp.argsort(-own_ratio)
    found = Candidates(
        ss,
        fs,
        own_ratio,
        signal,
        patch / per_pixel[:, None, None],
        live_patch,
        context,
        highest_around,
        scalars,
    )
    measured = Measured(highest.reshape(-1)[block[order]], bs[order] // 3, bf[order] // 3, cells)
    return jax.tree.map(lambda part: part[order], found), measured


def _over_rows(combine: Callable[..., jax.Array], rows: jax.Array) -> jax.Array:
    """Combine the rows of (n, width) to one, in a single loop over the columns."""
    return reduce(combine, list(rows))


def _between_columns(level: jax.Array) -> jax.Array:
    """Levels of blocks, (rows, columns), between their middles: (rows + 2, width + 2 * _REACH), a row more on each side."""
    wide = level
    for axis in (0, 1):
        sides = [(1, 1) if axis == of else (0, 0) for of in (0, 1)]
        # As steep beyond the edge as before it.
        odd = {"mode": "reflect", "reflect_type": "odd"} if level.shape[axis] > 1 else {"mode": "edge"}
        wide = jnp.pad(wide, sides, **odd)  # type: ignore[call-overload]
    place = (np.arange(level.shape[1] * NOISE_BLOCK + 2 * _REACH) - _REACH + 0.5) / NOISE_BLOCK + 0.5
    before = np.floor(place).astype(int)
    part = (place - before).astype(np.float32)
    return wide[:, before] * (1 - part) + wide[:, before + 1] * part


def _centroids(patch: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Centres of the spots in (n, 13, 13), pixels from the middle: centroids in a Gaussian window that moves along.

    A window of even weight would draw the centre towards its middle by as much as the noise around the spot weighs
    (Bertin's XWIN_IMAGE, SExtractor manual, section "Windowed positional parameters").
    """
    offset = jnp.arange(PATCH, dtype=jnp.float32) - PATCH // 2

    def step(_: Any, centre: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        from_ss, from_fs = (offset - part[:, None] for part in centre)
        by_ss, by_fs = (jnp.exp(-0.5 * (part / CENTROID_WINDOW) ** 2) for part in (from_ss, from_fs))
        rows, columns = jnp.einsum("nsf,nf->ns", patch, by_fs), jnp.einsum("nsf,ns->nf", patch, by_ss)
        total = jnp.maximum(jnp.sum(rows * by_ss, 1), 1e-9)
        moves = jnp.sum(rows * by_ss * from_ss, 1), jnp.sum(columns * by_fs * from_fs, 1)
        moved = [part + (2 * move / total).clip(-0.7, 0.7) for part, move in zip(centre, moves, strict=True)]
        return moved[0].clip(-2, 2), moved[1].clip(-2, 2)

    start = jnp.zeros(len(patch))
    ss, fs = jax.lax.fori_loop(0, WINDOW_STEPS, step, (start, start))
    return ss, fs


def _place_of_highest(x: jax.Array) -> jax.Array:
    """Index in the inner 8 x 8 of the highest response, of (n, edge, edge)."""

    def box(reach: int) -> Any:
        start = PATCH // 2 - reach
        size = BLOCK + 2 * reach
        part = x[:, start : start + size, start : start + size]
        by_row: Any = sum(part[:, k : k + BLOCK] for k in range(2 * reach + 1))
        whole: Any = sum(by_row[:, :, k : k + BLOCK] for k in range(2 * reach + 1))
        return whole

    inner, outer = box(1), box(_REACH)
    return ((1 + RING_SHARE) * inner - RING_SHARE * outer).reshape(x.shape[0], -1).argmax(-1)
