"""The shape of a network's base, and the maps it reads of a frame or a vector: without weights, computed once a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.mapping import map_leading
from sfxjax.preprocess.box_filter import check_spot, spot_sums

Stem = Literal["block_extrema", "space_to_depth", "pixels"]

ASINH_SCALE = 0.05
# The noise to which a frame's maps and a vector are scaled: near that of frames with little background.
TYPICAL_BLOCK_NOISE = 0.07
TYPICAL_EXTENT = 0.4
# Ke et al. (2018) bin 2x2 before they crop.
MOST_CHANNELS, MOST_LEVELS = 4096, 9
PLAIN_BINNINGS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class BaseConfig:
    """Shape of a convolutional base.

    Attributes:
        dimensions: 2 for frames, 1 for reduced vectors.
        stem: how a frame first shrinks: "block_extrema" keeps the largest and the smallest value of each block of pixels,
            "space_to_depth" makes each block's pixels the channels of one pixel, "pixels" keeps each block's mean. With
            "pixels" the network is the plain one of the paper's Fig. 2, of vectors too: nothing is scaled or counted.
        block: edge of the stem's blocks, pixels.
        spot: edge of the box filter that adds up the pixels of a spot before "block_extrema", pixels, odd; 1 for none.
        noise_normalised: whether values are scaled to the frame's noise. For frames with "block_extrema" only; for vectors
            most of whose values are noise (`sfxjax.reductions.registry.is_noise_filled`).
        channels: of each convolutional block, bottom to top.
        features: length of the feature vector.
        dropout: rate in the top two blocks.

    Raises:
        UserError: there is no such base.
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
        if not (type(self.dimensions) is int and self.dimensions in (1, 2) and self.stem in get_args(Stem)):
            raise UserError(
                f"no convolutional base with {self.dimensions!r} dimensions and the stem {self.stem!r}"
            )
        if self.dimensions == 1:
            object.__setattr__(self, "spot", 1)
        check_spot(self.spot)
        if not isinstance(self.channels, list | tuple):
            raise UserError(f"channels of {self.channels!r} are no list of numbers")
        object.__setattr__(self, "channels", tuple(self.channels))
        for name, value, most in (
            *(
                ("block", self.block, FRAME),
                ("spot", self.spot, FRAME),
                ("features", self.features, MOST_CHANNELS),
            ),
            *(("channels", value, MOST_CHANNELS) for value in self.channels),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise UserError(f"{name} of {value!r} is no whole number from 1 to {most}")
        if FRAME % self.block or not 1 <= len(self.channels) <= MOST_LEVELS:
            raise UserError(
                f"no convolutional base of {len(self.channels)} levels on blocks of {self.block} pixels, of a frame of {FRAME}"
            )
        if type(self.noise_normalised) is not bool:
            raise UserError(f"noise_normalised of {self.noise_normalised!r} is neither true nor false")
        if isinstance(self.dropout, bool | str) or not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout!r} is no number from 0 to 1")

    @property
    def equivariant(self) -> bool:
        """Whether rotating the frame by 90 degrees or mirroring it does the same to its maps, and is made use of."""
        return self.dimensions == 2 and self.stem == "block_extrema"

    @property
    def plain(self) -> bool:
        """Whether the network is the plain one."""
        return self.stem == "pixels"

    @property
    def maps(self) -> tuple[Any, ...]:
        """The settings that the maps or vectors read by a base depend on: bases that agree in them can share the maps."""
        if self.dimensions == 1:
            return self.dimensions, self.noise_normalised and not self.plain, self.plain
        if self.stem != "block_extrema":
            return self.dimensions, self.stem, self.block
        return self.dimensions, self.stem, self.block, self.spot, self.noise_normalised

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"channels": list(self.channels)}


def plain_base(binning: int = 4) -> BaseConfig:
    """Return the plain network of the paper's section 2.2, as far as it is described: the sizes are ours.

    Four blocks of 3-wide convolution, batch normalisation, ReLU and 2-wide max pooling on the LCN frame's pixels, dropout in
    the top two, and two fully connected layers; no random rotations. Of 720x720 frames binned 4x4 it has 130,173
    parameters, 123,969 of them in the classifier, and takes 8.2 million multiply-adds a frame.

    Args:
        binning: edge of the blocks of pixels whose mean is kept; 1 for all pixels, as the paper's networks read them.

    Raises:
        UserError: the blocks do not divide a frame.
    """
    if binning not in PLAIN_BINNINGS:
        raise UserError(f"--binning must be one of {', '.join(map(str, PLAIN_BINNINGS))}, not {binning}")
    return BaseConfig(
        stem="pixels", block=binning, spot=1, noise_normalised=False, channels=(4, 8, 16, 32), dropout=0.25
    )


def stem(frames: jax.Array, config: BaseConfig) -> jax.Array:
    """Shrink frames to the maps that a base reads; vectors keep their length. Both come out asinh-scaled, but for "pixels".

    Args:
        frames: (n, 720, 720) pre-processed frames, or (n, length) or (n, length, channels) reduced ones.
        config: of the base.

    Returns:
        (n, 720 / block, 720 / block, channels) float32 for frames, (n, length, channels) for vectors.
    """
    if config.dimensions == 1:
        vectors = (frames[..., None] if frames.ndim == 2 else frames).astype(jnp.float32)
        if config.plain:
            return vectors
        if not config.noise_normalised:
            return asinh_scaling(vectors)
        return _noise_normalised(vectors, vectors.mean(-1), TYPICAL_EXTENT)
    if config.plain:
        return space_to_depth(frames.astype(jnp.float32), config.block).mean(-1, keepdims=True)
    if config.stem == "space_to_depth":
        return finished_maps(space_to_depth(frames, config.block), config)

    def blocks(frame: jax.Array) -> jax.Array:
        return block_extrema(spot_sums(frame, config.spot)[None], config.block)[0]

    return finished_maps(map_leading(blocks, frames.astype(jnp.float32)), config)


def finished_maps(blocks: jax.Array, config: BaseConfig) -> jax.Array:
    """Make maps of the blocks of frames: the second half of `stem`, for blocks that come without the frame.

    Args:
        blocks: (n, ss, fs, channels), from `block_extrema`, `space_to_depth` or `sfxjax.preprocess.tiled`.
        config: of the base.

    Returns:
        The same shape, float32.
    """
    blocks = blocks.astype(jnp.float32)
    if config.noise_normalised and config.stem == "block_extrema":
        return _noise_normalised(blocks, blocks[..., 1], TYPICAL_BLOCK_NOISE)
    return _fill(asinh_scaling(blocks), _valid(blocks))


def block_extrema(frames: jax.Array, block: int) -> jax.Array:
    """Keep the largest and the smallest value of each square block.

    The maximum keeps the signal of a spot. The minimum tells noise and edges, which reach above and below the background,
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
    """Scale values by arcsinh(x / 0.05): linear within the noise and logarithmic above it.

    The signals of spots span two decades, and a spot is recognised by its ratio to the noise. On a logarithmic scale the
    ratio is a difference, which a convolution can form, and a few bright spots do not decide the batch statistics.

    Args:
        values: of normalised frames, or of vectors made from them; noise is about 0.03.

    Returns:
        The same shape, float32.
    """
    scaled = values.astype(jnp.float32) / ASINH_SCALE
    size = jnp.abs(scaled)
    # `jnp.arcsinh` takes six times as long on a CPU; the squares of what frames give do not overflow.
    return jnp.sign(scaled) * jnp.log1p(size + size * size / (1 + jnp.sqrt(size * size + 1)))


def frame_noise(signal: jax.Array, valid: jax.Array) -> jax.Array:
    """Measure each frame's noise by values that spots hardly change.

    The normalisation divides by the standard deviation of the whole frame, to which an uneven background adds. Scaled to the
    noise instead, frames of different detectors and backgrounds are alike. The noise is the mean over the places, where a
    place above twice the mean counts as twice the mean: near the median, which would take a sort.

    Args:
        signal: (n, ...), such as minus the smallest value of each block, or largest minus smallest value of each row.
        valid: (n, ...) bool, places with data.

    Returns:
        (n,), 0 for a frame without data.
    """
    places = tuple(range(1, valid.ndim))
    doubled = 2 * _valid_mean(signal, valid, places)
    return _valid_mean(jnp.minimum(signal, doubled), valid, places).reshape(-1)


def _noise_normalised(values: jax.Array, signal: jax.Array, noise: float) -> jax.Array:
    """Scale (n, ..., channels) values so that every frame's noise, measured on its (n, ...) signal, is `noise`."""
    valid = _valid(values)
    measured = frame_noise(signal, valid)
    scale = jnp.where(measured > 0, noise / measured, 1)
    return _fill(asinh_scaling(values * scale.reshape(-1, *(1,) * (values.ndim - 1))), valid)


def _valid(values: jax.Array) -> jax.Array:
    """Tell which places of (n, ..., channels) values hold data: (n, ...). The others are exactly 0 in every channel."""
    return jnp.any(values != 0, axis=-1)


def _fill(maps: jax.Array, valid: jax.Array) -> jax.Array:
    """Give places without data the mean of the frame's other places: zeros would put an edge around a masked region."""
    valid = valid[..., None]
    return jnp.where(valid, maps, _valid_mean(maps, valid, tuple(range(1, maps.ndim - 1))))


def _valid_mean(values: jax.Array, valid: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Mean over the valid places along axes, which stay with length 1; 0 without any."""
    count = jnp.maximum(valid.sum(axes, keepdims=True), 1)
    return jnp.where(valid, values, 0).sum(axes, keepdims=True) / count
