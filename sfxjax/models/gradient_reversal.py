"""The gradient reversal layer of domain-adversarial training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


@jax.custom_vjp
def gradient_reversal(x: jax.Array, strength: ArrayLike) -> jax.Array:
    """Return `x` unchanged, and multiply the gradient that flows back through it by `-strength`.

    Between a shared base and a domain classifier it trains the classifier to tell the two domains apart and
    the base to make them alike.

    Args:
        x: any array of floats.
        strength: a number, of no unit; 1 reverses, 0 stops the gradient. It receives no gradient itself.

    Returns:
        `x`.

    References:
        Ganin et al., Domain-adversarial training of neural networks, JMLR 17 (2016), section 4; the paper
        (Xie, Liu et al., Optics Express 31(20):32909, 2023), section 2.3.3.
    """
    del strength
    return x


def _forward(x: jax.Array, strength: ArrayLike) -> tuple[jax.Array, ArrayLike]:
    return x, strength


def _backward(strength: ArrayLike, gradient: jax.Array) -> tuple[jax.Array, None]:
    # The strength is cast so that a float32 one does not widen the gradient of a bfloat16 array.
    return -jnp.asarray(strength, gradient.dtype) * gradient, None


gradient_reversal.defvjp(_forward, _backward)
