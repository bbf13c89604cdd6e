"""Layers of the convolutional base that Flax has too, in the form that its fused convolution and pooling asks for.

Names of parameters and statistics are those of Flax's layers.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from sfxjax.fusion import fusion_barrier
from sfxjax.models.pooled_convolution import along_channels

# Of batch normalisation: the share of the running statistics that a step keeps, and what is added to a variance.
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
    """Batch normalisation by given moments, with the parameters and the statistics of `flax.linen.BatchNorm`.

    Attributes:
        channels: how many.
        start: of the offsets.
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
        """Tell in which channels normalised values rise with the values: bool (channels,)."""
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
            mean: (channels,) of the batch, which the running statistics follow; None: take those.
            variance: (channels,) of the batch.
            batch_last: the values are (channels, ..., n).
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
    """What `flax.linen.Dropout` does, drawing the zeros once.

    XLA on a CPU would draw them in every step that reads them, forth and back, which took a third of a training step.

    Attributes:
        rate: share of the values that become zero; the others grow in turn.
    """

    rate: float

    @nn.compact
    def __call__(self, values: jax.Array, *, deterministic: bool) -> jax.Array:
        """Drop some of the values, or none where that is to be `deterministic`."""
        if deterministic:
            return values
        key = self.make_rng("dropout")
        # Of a drawn word each byte decides on a value. The share of bytes that drop one is the nearest to the rate.
        dropped, words = round(self.rate * 256), -(-values.size // 4)

        def draw() -> jax.Array:
            drawn = jax.lax.bitcast_convert_type(jax.random.bits(key, (words,), jnp.uint32), jnp.uint8)
            return drawn.ravel()[: values.size].reshape(values.shape) >= dropped

        # On a CPU alone: a GPU's host would wait for the number that decides a branch.
        bounded = values.ravel()[0] != jnp.inf if jax.default_backend() == "cpu" else None
        kept = fusion_barrier(bounded, draw)
        return jnp.where(kept, values / (1 - dropped / 256), 0)
