"""The networks: a 2D CNN, a 1D CNN for reduced frames, and the domain-adversarial network around either.

The paper publishes no channel counts or kernel sizes, only the plan: blocks of convolution, batch normalisation,
activation and pooling, dropout on the top blocks, fully connected layers (Fig. 2), and for DANN a label and a domain
classifier on one convolutional base (Fig. 4). The sizes here were chosen for speed: see each class.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.models.gradient_reversal import gradient_reversal
from sfxjax.models.layers import MOMENTUM, Dropout, Kernel, Normalization
from sfxjax.models.pooled_convolution import (
    pooled_convolution,
    pooled_convolution_and_moments,
    suits_batch_last,
    with_channels_last,
)
from sfxjax.models.stem import BaseConfig

ORIENTATIONS = 8


def rotate_flip(maps: jax.Array, orientation: jax.Array | np.ndarray | int) -> jax.Array:
    """Bring a batch of square maps into one of eight orientations: rotations by 90 degrees and mirror images.

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

    A frame's class is decided by its number of spots, wherever they lie and however bright they are. So every block
    saturates (tanh of the ReLU; the normalisation starts at -2, so that noise stays at zero), each top channel is summed
    over the frame, log(1 + sum) brings four spots and four hundred within reach of one classifier, and a fully connected
    layer with tanh bounds the features: a hit of 400 spots is no further from a miss than one of 40.

    The plain network (`config.plain`) does none of this: plain ReLU, and the last block's values are the features.

    The default, for frames in blocks of 8 and with 8 and 16 channels, has 1,648 parameters and takes 3.5 million
    multiply-adds a frame; a single 3x3 layer of four channels at full resolution would take 19 million.

    Attributes:
        config: the base's shape.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        frozen: number of levels, from the bottom, that do not train: they keep their running statistics and have no
            dropout. Each block is a level, and the count with the features is the last one.
        dtype: in which the blocks compute; counts, features and weights are always float32.
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
            (n, features) float32 in (-1, 1); of the plain network as many as the last block has values, from 0.
        """
        config = self.config
        values = maps.astype(self.dtype)
        last = len(config.channels) - 1
        for level, channels in enumerate(config.channels):
            kernel = Kernel(
                (3,) * config.dimensions + (values.shape[-1], channels), name=f"convolution_{level}"
            )
            start = 0.0 if config.plain else -2.0
            normalization = Normalization(channels, start, self.axis_name, name=f"normalization_{level}")
            arguments = values, kernel().astype(self.dtype), normalization.rising()
            fixed = not train or level < self.frozen
            batch_last = not fixed and suits_batch_last(values)
            if fixed:
                values = normalization(pooled_convolution(*arguments))
            else:
                pooled = pooled_convolution_and_moments(*arguments, batch_last=batch_last)
                values = normalization(*pooled, batch_last=batch_last)
            values = nn.relu(values).astype(self.dtype)
            if not config.plain:
                values = jnp.tanh(values)
            if level >= last - 1 and config.dropout > 0:
                values = Dropout(config.dropout, name=f"dropout_{level}")(values, deterministic=fixed)
            if batch_last:
                values = with_channels_last(values)
        if config.plain:
            return values.reshape(len(values), -1).astype(jnp.float32)
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
    """The 2D CNN on frames, or the 1D CNN on reduced vectors: a convolutional base and a label classifier.

    Attributes:
        config: shape of the base; its `dimensions` tells which of the two this is.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        dtype: in which the base's blocks compute.
    """

    config: BaseConfig = BaseConfig()
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Build `base` and `label_head`, which have the same weights in DANN."""
        self.base = ConvolutionalBase(self.config, self.axis_name, dtype=self.dtype)
        self.label_head = Classifier()

    def __call__(self, maps: jax.Array, *, train: bool = False) -> jax.Array:
        """Classify frames or vectors.

        Args:
            maps: (n, ss, fs, channels) or (n, length, channels) float32 from `sfxjax.models.stem.stem`.
            train: use the batch's statistics and dropout.

        Returns:
            (n,) float32 logits of the positive class (Hit or Maybe).

        Raises:
            flax.errors.ScopeParamShapeError: the maps have another number of channels than the weights are for.
        """
        return self.label_head(self.base(maps, train=train))

    def features(self, maps: jax.Array) -> jax.Array:
        """Return the (n, features) float32 values in (-1, 1) that the classifier sees, for maps as above."""
        return self.base(maps, train=False)


class DomainAdversarialNetwork(nn.Module):
    """DANN: one base, a label classifier, and a domain classifier behind a gradient reversal (the paper's Fig. 4).

    Attributes:
        config: shape of the base.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        frozen: number of levels of the base that do not train, see `ConvolutionalBase`.
    """

    config: BaseConfig = BaseConfig()
    axis_name: str | None = None
    frozen: int = 0

    def setup(self) -> None:
        """Build the parts; `base` and `label_head` are those of `HitClassifier`."""
        self.base = ConvolutionalBase(self.config, self.axis_name, self.frozen)
        self.label_head = Classifier()
        self.domain_head = Classifier()

    def __call__(
        self, maps: jax.Array, strength: jax.Array | float = 1.0, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Classify frames or vectors by class and by domain.

        Args:
            maps: (n, ss, fs, channels) or (n, length, channels) float32 of both domains, from `sfxjax.models.stem.stem`.
            strength: factor of the gradient reversal.
            train: use the batch's statistics and dropout.

        Returns:
            (n,) float32 logits of the positive class (Hit or Maybe), and (n,) of the target domain.

        Raises:
            flax.errors.ScopeParamShapeError: the maps have another number of channels than the weights are for.
        """
        features = self.base(maps, train=train)
        return self.label_head(features), self.domain_head(gradient_reversal(features, strength))


def parameter_count(params: Any) -> int:
    """Count the numbers in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
