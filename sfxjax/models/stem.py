"""What a convolutional base is like, and how frames and vectors first shrink to the maps that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sfxjax.errors import UserError
from sfxjax.preprocess.box_filter import check_spot, spot_sums

Stem = Literal["block_extrema", "space_to_depth"]


ASINH_SCALE = 0.05


# Of the blocks, and of the places of the vector, of a frame with own noise: near those of frames with little background
# after the normalisation.
TYPICAL_BLOCK_NOISE = 0.07


TYPICAL_EXTENT = 0.4


@dataclass(frozen=True)
class BaseConfig:
    """Shape of a convolutional base.

    Attributes:
        dimensions: 2 for frames, 1 for reduced vectors.
        stem: how a frame first shrinks: "block_extrema" keeps the largest and the smallest pixel of each block,
            "space_to_depth" makes each block's pixels the channels of one pixel. Frames only.
        block: edge of the stem's blocks, pixels.
        spot: edge of the squares that are added up before the extremes are taken, pixels, odd: about that of a spot; 1 for
            single pixels. Frames with "block_extrema" alone.
        noise_normalised: whether signals are in units of the frame's own noise. For frames with "block_extrema" alone; for
            vectors whose places mostly hold noise, such as those of `sfxjax.reductions.registry.SIGNAL_VECTORS`.
        channels: of each convolutional block, bottom to top.
        features: length of the feature vector.
        dropout: rate on the top two blocks.
    """

    dimensions: int = 2
    stem: Stem = "block_extrema"
    block: int = 8
    spot: int = 3
    noise_normalised: bool = True
    channels: tuple[int, ...] = (8, 16)
    features: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2) or self.stem not in ("block_extrema", "space_to_depth"):
            raise UserError(
                f"no convolutional base with {self.dimensions} dimensions and the stem {self.stem!r}"
            )
        if self.dimensions == 1:
            object.__setattr__(self, "spot", 1)
        check_spot(self.spot)
        object.__setattr__(self, "channels", tuple(self.channels))

    @property
    def equivariant(self) -> bool:
        """Whether rotating the maps rotates the frame: not where the places within a block are channels."""
        return self.dimensions == 2 and self.stem == "block_extrema"

    @property
    def maps(self) -> tuple[Any, ...]:
        """What decides the maps or vectors that a base reads: bases alike in this can share them."""
        if self.dimensions == 1:
            return self.dimensions, self.noise_normalised
        if self.stem == "space_to_depth":
            return self.dimensions, self.stem, self.block
        return self.dimensions, self.stem, self.block, self.spot, self.noise_normalised

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"channels": list(self.channels)}


def block_extrema(frames: jax.Array, block: int) -> jax.Array:
    """Keep the largest and the smallest value of each square block.

    A spot stands out by its height, which the maximum keeps; the minimum tells noise and edges, which swing both ways,
    from spots, which do not.

    Args:
        frames: (n, ss, fs).
        block: edge of the blocks, pixels; it divides ss and fs.

    Returns:
        (n, ss / block, fs / block, 2): maximum, and minus the minimum.
    """
    n, ss, fs = frames.shape
    lines = frames.reshape(n, ss // block, block, fs)

    def extreme(reduce: Callable[..., jax.Array]) -> jax.Array:
        # One axis after the other: both at once take four times as long on a CPU.
        return reduce(reduce(lines, axis=2).reshape(n, ss // block, fs // block, block), axis=3)

    return jnp.stack([extreme(jnp.max), -extreme(jnp.min)], axis=-1)


def space_to_depth(frames: jax.Array, block: int) -> jax.Array:
    """Turn each square block of pixels into the channels of one pixel.

    Args:
        frames: (n, ss, fs).
        block: edge of the blocks, pixels; it divides ss and fs.

    Returns:
        (n, ss / block, fs / block, block * block).
    """
    n, ss, fs = frames.shape
    blocks = frames.reshape(n, ss // block, block, fs // block, block).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(n, ss // block, fs // block, block * block)


def asinh_scaling(values: jax.Array) -> jax.Array:
    """Scale signals so that ratios become differences: arcsinh(x / 0.05), linear within the noise and logarithmic above it.

    The signals of spots span two decades, and what tells a spot is its ratio to the noise. On a logarithmic scale
    that ratio is a difference, which a convolution can form; and a batch's statistics are those of its background, not of its
    few brightest spots.

    Args:
        values: of frames after local contrast normalisation, or of vectors made from them; noise is about 0.03.
    """
    scaled = values.astype(jnp.float32) / ASINH_SCALE
    size = jnp.abs(scaled)
    # `jnp.arcsinh` takes six times as long on a CPU; the squares of what frames give do not overflow.
    return jnp.sign(scaled) * jnp.log1p(size + size * size / (1 + jnp.sqrt(size * size + 1)))


def stem(frames: jax.Array, config: BaseConfig) -> jax.Array:
    """Shrink frames to the maps a base reads; vectors pass, with a channel axis. Both are compressed.

    It has no weights, so that training computes it once a frame and keeps the maps, some thirtieth of the frames' bytes.

    Args:
        frames: (n, 720, 720) pre-processed frames, or (n, length) or (n, length, channels) reduced ones.
        config: of the base.

    Returns:
        (n, 720 / block, 720 / block, channels) float32 for frames, (n, length, channels) for vectors.
    """
    if config.dimensions == 1:
        vectors = (frames[..., None] if frames.ndim == 2 else frames).astype(jnp.float32)
        return (
            _noise_normalised(vectors, vectors.mean(-1), TYPICAL_EXTENT)
            if config.noise_normalised
            else asinh_scaling(vectors)
        )
    if config.stem == "space_to_depth":
        return finished_maps(space_to_depth(frames, config.block), config)

    def blocks(frame: jax.Array) -> jax.Array:
        return block_extrema(spot_sums(frame, config.spot)[None], config.block)[0]

    # One by one on a CPU: the sums of all frames would leave its cache.
    each = partial(jax.lax.map, blocks) if jax.default_backend() == "cpu" else jax.vmap(blocks)
    return finished_maps(each(frames.astype(jnp.float32)), config)


def finished_maps(blocks: jax.Array, config: BaseConfig) -> jax.Array:
    """Make maps of a frame's blocks: the stem's second half, for blocks that come without the frame.

    Args:
        blocks: (n, ss, fs, channels), from `block_extrema`, `space_to_depth` or `sfxjax.preprocess.fused.reduce_raw`.
        config: of the base.

    Returns:
        The same shape, float32.
    """
    blocks = blocks.astype(jnp.float32)
    if config.noise_normalised and config.stem == "block_extrema":
        return _noise_normalised(blocks, blocks[..., 1], TYPICAL_BLOCK_NOISE)
    return _fill(asinh_scaling(blocks), _live(blocks))


def _noise_normalised(values: jax.Array, heights: jax.Array, common: float) -> jax.Array:
    """Scale (n, ..., channels) values by arcsinh, with every frame's noise, told by its (n, ...) heights, brought to `common`."""
    live = _live(values)
    noise = frame_noise(heights, live)
    scale = jnp.where(noise > 0, common / noise, 1)
    return _fill(asinh_scaling(values * scale.reshape(-1, *(1,) * (values.ndim - 1))), live)


def frame_noise(heights: jax.Array, live: jax.Array) -> jax.Array:
    """Measure each frame's noise by heights that spots leave alone: how far blocks reach below 0, or those of most rows.

    The normalisation divides by the deviation of the whole frame, which the shape of its background decides. What tells a spot is
    its height over the noise; in units of that, sets of other detectors and backgrounds are alike.

    It is the mean over the places, those above twice the mean counting as just that: near the median, which takes a sort.

    Args:
        heights: (n, ...), such as minus the smallest value of each block, or the extent of each row.
        live: (n, ...) bool, places with data.

    Returns:
        (n,), 0 for a frame without data.
    """
    places = tuple(range(1, live.ndim))
    doubled = 2 * _live_mean(heights, live, places)
    return _live_mean(jnp.minimum(heights, doubled), live, places).reshape(-1)


def _live(values: jax.Array) -> jax.Array:
    """Tell which places hold data: (n, ...) of (n, ..., channels). Those without are exactly 0 throughout."""
    return jnp.any(values != 0, axis=-1)


def _fill(maps: jax.Array, live: jax.Array) -> jax.Array:
    """Give places without data the mean of the frame's other places.

    Nothing measured is as smooth as a masked region; as zeros its outline would look like structure.
    """
    live = live[..., None]
    return jnp.where(live, maps, _live_mean(maps, live, tuple(range(1, maps.ndim - 1))))


def _live_mean(values: jax.Array, live: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Mean over the live places along axes, which stay with length 1; 0 without any."""
    count = jnp.maximum(live.sum(axes, keepdims=True), 1)
    return jnp.where(live, values, 0).sum(axes, keepdims=True) / count
