"""The networks: a 2D CNN, a 1D CNN for reduced frames, and the domain-adversarial network around either.

The paper publishes no channel counts or kernel sizes, only the plan: blocks of convolution, batch normalisation,
activation and pooling, dropout on the top blocks, fully connected layers (Fig. 2), and for DANN a label and a domain
classifier on one convolutional base (Fig. 4). What is declared here was chosen for its cost: see each class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.errors import UserError
from sfxjax.models.gradient_reversal import gradient_reversal
from sfxjax.models.layers import MOMENTUM, Dropout, Kernel, Normalization
from sfxjax.models.pooled_convolution import (
    pooled_convolution,
    pooled_convolution_and_moments,
    suits_batch_last,
    with_channels_last,
)
from sfxjax.preprocess.box_filter import check_spot, spot_sums

Stem = Literal["block_extrema", "space_to_depth"]

ASINH_SCALE = 0.05
# The noise to which a frame's maps and a vector are scaled: near that of frames with little background.
MAP_NOISE = 0.07
VECTOR_NOISE = 0.4
ORIENTATIONS = 8


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
        noise_normalised: whether values are scaled to the frame's noise. For frames with "block_extrema" alone; for vectors
            whose places mostly hold noise, such as those of `sfxjax.reductions.registry.HEIGHTS`.
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
        """Whether turning the maps turns the frame: not where the places within a block are channels."""
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


def max_pool(values: jax.Array) -> jax.Array:
    """Halve every spatial axis by the maximum of pairs; a last odd row is dropped.

    A reshape and a maximum: on a CPU its gradient is several times cheaper than that of a windowed reduction.

    Args:
        values: (n, ..., channels) with one or two spatial axes.

    Returns:
        The same with each spatial axis halved.
    """
    for axis in range(1, values.ndim - 1):
        half = values.shape[axis] // 2
        values = jax.lax.slice_in_dim(values, 0, 2 * half, axis=axis)
        values = values.reshape(*values.shape[:axis], half, 2, *values.shape[axis + 1 :]).max(axis + 1)
    return values


def asinh_scaling(values: jax.Array) -> jax.Array:
    """Make heights additive: arcsinh(x / 0.05), linear within the noise and logarithmic above it.

    The heights of spots span two decades, and what tells a spot is its ratio to the noise. On a logarithmic scale
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
            _noise_normalised(vectors, vectors.mean(-1), VECTOR_NOISE)
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
        return _noise_normalised(blocks, blocks[..., 1], MAP_NOISE)
    return _fill(asinh_scaling(blocks), _live(blocks))


def _noise_normalised(values: jax.Array, heights: jax.Array, common: float) -> jax.Array:
    """Compress (n, ..., channels) values after bringing every frame's noise, as its (n, ...) heights tell it, to a common one."""
    valid = _live(values)
    noise = frame_noise(heights, valid)
    scale = jnp.where(noise > 0, common / noise, 1)
    return _fill(asinh_scaling(values * scale.reshape(-1, *(1,) * (values.ndim - 1))), valid)


def frame_noise(heights: jax.Array, valid: jax.Array) -> jax.Array:
    """Measure each frame's noise by heights that spots leave alone: how far blocks reach below 0, or those of most rows.

    The normalisation divides by the deviation of the whole frame, which the shape of its background decides. What tells a spot is
    its height over the noise; in units of that, sets of other detectors and backgrounds are alike.

    It is the mean over the places, those above twice the mean counting as just that: near the median, which takes a sort.

    Args:
        heights: (n, ...), such as minus the smallest value of each block, or the extent of each row.
        valid: (n, ...) bool, places with data.

    Returns:
        (n,), 0 for a frame without data.
    """
    places = tuple(range(1, valid.ndim))
    doubled = 2 * _live_mean(heights, valid, places)
    return _live_mean(jnp.minimum(heights, doubled), valid, places).reshape(-1)


def _live(values: jax.Array) -> jax.Array:
    """Tell which places hold data: (n, ...) of (n, ..., channels). Those without are exactly 0 throughout."""
    return jnp.any(values != 0, axis=-1)


def _fill(maps: jax.Array, valid: jax.Array) -> jax.Array:
    """Give places without data the mean of the frame's other places.

    Nothing measured is as smooth as a masked region; as zeros its outline would look like structure.
    """
    valid = valid[..., None]
    return jnp.where(valid, maps, _live_mean(maps, valid, tuple(range(1, maps.ndim - 1))))


def _live_mean(values: jax.Array, valid: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Mean over the valid places along axes, which stay with length 1; 0 without any."""
    count = jnp.maximum(valid.sum(axes, keepdims=True), 1)
    return jnp.where(valid, values, 0).sum(axes, keepdims=True) / count


def rotate_flip(maps: jax.Array, orientation: jax.Array | np.ndarray | int) -> jax.Array:
    """Turn a batch of square maps into one of the eight orientations of a square.

    Diffraction has no up: a turned or mirrored frame has as many spots.

    Args:
        maps: (n, side, side, channels).
        orientation: int32 in [0, 8): bit 0 mirrors ss, bit 1 mirrors fs, bit 2 transposes.

    Returns:
        (n, side, side, channels).
    """
    orientation = jnp.asarray(orientation)
    # Choices between arrays, no branches of the program: a GPU's host waits for the number that decides a branch.
    for axis in (1, 2):
        maps = jnp.where(orientation & axis, jnp.flip(maps, axis), maps)
    return jnp.where(orientation & 4, jnp.swapaxes(maps, 1, 2), maps)


class ConvolutionalBase(nn.Module):
    """Blocks of 3-wide convolution, batch normalisation, saturating ReLU and 2-wide max pooling, then a count.

    What decides a frame's class is the number of spots, wherever they lie and however bright they are. So every
    block saturates (tanh of the ReLU, the normalisation starting at -2 so that noise stays at zero), each top channel is summed
    over all places, log(1 + sum) brings four spots and four hundred within reach of one classifier, and one fully
    connected layer with tanh makes the features bounded: a hit of 400 spots is no further from a miss than one of 40.

    The default, for frames in blocks of 8 and with 8 and 16 channels, has 1,648 parameters and takes 3.5 million
    multiply-adds a frame; a single 3x3 layer of four channels at full resolution would take 19 million.

    Attributes:
        config: the base's shape.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        frozen: levels, from the bottom, that stay as they are in training too: running statistics and no dropout. Each
            block is a level, and the count with the features is the last one.
        dtype: in which the blocks compute; counts, features and weights are float32 at any rate.
    """

    config: BaseConfig
    axis_name: str | None = None
    frozen: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool = False) -> jax.Array:
        """Compute features.

        Args:
            maps: (n, ss, fs, channels) or (n, length, channels) from `stem`.
            train: use the batch's statistics and dropout.

        Returns:
            (n, features) float32 in (-1, 1).
        """
        config = self.config
        values = maps.astype(self.dtype)
        last = len(config.channels) - 1
        for level, channels in enumerate(config.channels):
            kernel = Kernel(
                (3,) * config.dimensions + (values.shape[-1], channels), name=f"convolution_{level}"
            )
            normalization = Normalization(channels, -2.0, self.axis_name, name=f"normalization_{level}")
            arguments = values, kernel().astype(self.dtype), normalization.rising()
            fixed = not train or level < self.frozen
            batch_last = not fixed and suits_batch_last(values)
            if fixed:
                values = normalization(pooled_convolution(*arguments))
            else:
                pooled = pooled_convolution_and_moments(*arguments, batch_last=batch_last)
                values = normalization(*pooled, batch_last=batch_last)
            values = jnp.tanh(nn.relu(values).astype(self.dtype))
            if level >= last - 1 and config.dropout > 0:
                values = Dropout(config.dropout, name=f"dropout_{level}")(values, deterministic=fixed)
            if batch_last:
                values = with_channels_last(values)
        counts = jnp.log1p(values.sum(axis=tuple(range(1, values.ndim - 1)), dtype=jnp.float32))
        fixed = not train or last + 1 < self.frozen
        normalize = nn.BatchNorm(momentum=MOMENTUM, axis_name=self.axis_name, name="normalization_counts")
        counts = normalize(counts, use_running_average=fixed)
        return jnp.tanh(nn.Dense(config.features, name="features")(counts))


class Classifier(nn.Module):
    """Two fully connected layers with one logit.

    Attributes:
        width: units of the hidden layer.
    """

    width: int = 32

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Map (n, channels) features to (n,) logits."""
        hidden = nn.relu(nn.Dense(self.width, name="hidden")(features))
        return nn.Dense(1, name="logit")(hidden)[..., 0]


class HitClassifier(nn.Module):
    """The 2D CNN on frames, or the 1D CNN on reduced vectors: base and label classifier.

    Attributes:
        config: shape of the base; its `dimensions` tells which of the two this is.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        dtype: in which the base's blocks compute.
    """

    config: BaseConfig = BaseConfig()
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Build the parts under the names `base` and `label_head`, which DANN shares."""
        self.base = ConvolutionalBase(self.config, self.axis_name, dtype=self.dtype)
        self.label_head = Classifier()

    def __call__(self, maps: jax.Array, *, train: bool = False) -> jax.Array:
        """Return (n,) logits of the positive class (Hit or Maybe) for maps from `stem`."""
        return self.label_head(self.base(maps, train=train))

    def features(self, maps: jax.Array) -> jax.Array:
        """Return the (n, channels) features that the classifier sees."""
        return self.base(maps, train=False)


class DomainAdversarialNetwork(nn.Module):
    """DANN: one base, a label classifier, and a domain classifier behind a gradient reversal (the paper's Fig. 4).

    Attributes:
        config: shape of the base.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        frozen: levels of the base that stay as they are, see `ConvolutionalBase`.
        conditional: the domain classifier sees the features once for each class, weighted by what the label classifier
            gives that class, so that classes are aligned with their like (Long et al., NeurIPS 2018, equation 3).
    """

    config: BaseConfig = BaseConfig()
    axis_name: str | None = None
    frozen: int = 0
    conditional: bool = False

    def setup(self) -> None:
        """Build the parts; `base` and `label_head` are those of `HitClassifier`."""
        self.base = ConvolutionalBase(self.config, self.axis_name, self.frozen)
        self.label_head = Classifier()
        self.domain_head = Classifier()

    def __call__(
        self, maps: jax.Array, strength: jax.Array | float = 1.0, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Compute both heads.

        Args:
            maps: (n, ...) of both domains, from `stem`.
            strength: of the gradient reversal.
            train: use the batch's statistics and dropout.

        Returns:
            (n,) logits of the positive class, and (n,) logits of the target domain.
        """
        features = self.base(maps, train=train)
        logits = self.label_head(features)
        seen = gradient_reversal(features, strength)
        if self.conditional:
            positive = jax.nn.sigmoid(jax.lax.stop_gradient(logits))[:, None]
            seen = jnp.concatenate([positive * seen, (1 - positive) * seen], axis=-1)
        return logits, self.domain_head(seen)


def parameter_count(params: Any) -> int:
    """Count the numbers in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
