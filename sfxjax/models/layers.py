"""Flax's convolution kernel, batch normalisation and dropout, rewritten to go with the fused convolution and pooling.

Parameters and statistics have the names that Flax gives them.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from sfxjax.fusion import fusion_barrier
from sfxjax.models.pooled_convolution import along_channels

# Of batch normalisation: the fraction of the running statistics that a step keeps, and what is added to a variance.
MOMENTUM = 0.95
EPSILON = 1e-5


class Kernel(nn.Module):
    """The weights of a convolution, under the name that `flax.linen.Conv` gives them.

    Attributes:
        shape: (width, ..., channels in, channels).
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        """Return the kernel."""
        return self.param("kernel", nn.initializers.lecun_normal(), self.shape)


class Normalization(nn.Module):
    """Batch normalisation by moments that are given, with the parameters and the statistics of `flax.linen.BatchNorm`.

    Attributes:
        channels: how many.
        start: initial value of the offsets.
        axis_name: mapped axis over which batch statistics are averaged, or None.
    """

    channels: int
    start: float
    axis_name: str | None

    def setup(self) -> None:
        """Declare what `flax.linen.BatchNorm` declares."""
        self.scale = self.param("scale", nn.initializers.ones, (self.channels,))
        self.bias = self.param("bias", nn.initializers.constant(self.start), (self.channels,))
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, (self.channels,))
        self.var = self.variable("batch_stats", "var", jnp.ones, (self.channels,))

    def rising(self) -> jax.Array:
        """Return bool (channels,), True where the normalised value rises with the value."""
        return self.scale >= 0

    def __call__(
        self,
        values: jax.Array,
        mean: jax.Array | None = None,
        variance: jax.Array | None = None,
        *,
        batch_last: bool = False,
    ) -> jax.Array:
        """Normalise values.

        Args:
            values: (..., channels).
            mean: (channels,) of the batch, which also updates the running mean; None: use the running one.
            variance: (channels,) of the batch, likewise.
            batch_last: whether the values are (channels, ..., n).

        Returns:
            The same shape.
        """
        if mean is None or variance is None:
            mean, variance = self.mean.value, self.var.value
        elif not self.is_initializing():
            if self.axis_name is not None:
                own = mean
                mean = jax.lax.pmean(own, self.axis_name)
                variance = jax.lax.pmean(variance + (own - mean) ** 2, self.axis_name)
            self.mean.value = MOMENTUM * self.mean.value + (1 - MOMENTUM) * mean
            self.var.value = MOMENTUM * self.var.value + (1 - MOMENTUM) * variance
        slope = self.scale * jax.lax.rsqrt(variance + EPSILON)
        mean, slope, bias = (
            along_channels(numbers, values, batch_last) for numbers in (mean, slope, self.bias)
        )
        return (values - mean) * slope + bias


class Dropout(nn.Module):
    """`flax.linen.Dropout`, but the zeros are drawn once.

    XLA on a CPU would draw them again wherever they are read, in the forward and the backward pass, a third of a training step.

    Attributes:
        rate: fraction of the values that become zero; the others are scaled up so that the mean stays.
    """

    rate: float

    @nn.compact
    def __call__(self, values: jax.Array, *, deterministic: bool) -> jax.Array:
        """Drop some of the values; none if `deterministic`."""
        if deterministic:
            return values
        key = self.make_rng("dropout")
        # Each byte of a random word decides on one value; the rate is rounded to a multiple of 1 / 256.
        dropped, words = round(self.rate * 256), -(-values.size // 4)

        def draw() -> jax.Array:
            drawn = jax.lax.bitcast_convert_type(jax.random.bits(key, (words,), jnp.uint32), jnp.uint8)
            return drawn.ravel()[: values.size].reshape(values.shape) >= dropped

        # On a CPU alone: a GPU's host would wait for the number that decides a branch.
        bounded = values.ravel()[0] != jnp.inf if jax.default_backend() == "cpu" else None
        kept = fusion_barrier(bounded, draw)
        return jnp.where(kept, values / (1 - dropped / 256), 0)
