"""What the candidates of a frame tell of each other: grains of a ring, speckle and defects come in numbers, and spots look alike.

The network of `sfxjax.spots.day_one` judges each candidate by itself. Here what it made of all of them is summed over the
frame, and from these sums follow what the log odds of each candidate gain or lose, and how far the odds of all of them may be
off together. The number of visible spots is Poisson-binomial for each of a few such errors, and the frame's distribution is
the mean of these, weighted as a normal distribution has it (Gauss-Hermite quadrature).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Candidates of a lower signal-to-noise ratio are not summed.
LEAST_SUMMED = 3.0
# Signal-to-noise ratios above which candidates are counted, softly.
COUNTED_FROM = (5.0, 8.0)
# What each candidate adds besides the network's hidden values, and sums that are not learnt.
OWN_VALUES, COUNTED_SUMS = 2, 3 + 3 * len(COUNTED_FROM)
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(5)
# Errors of the log odds, standard deviations, and the weights of each.
ERRORS = _NODES.astype(np.float32)
ERROR_WEIGHTS = (_SHARES / _SHARES.sum()).astype(np.float32)


def among_others(
    weights: dict[str, Any], hidden: jax.Array, logits: jax.Array, ratio: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Correct the log odds of a frame's candidates by what all of them are like.

    Args:
        weights: of the day-one model.
        hidden: (n, features) of the network's last hidden layer.
        logits: (n,) log odds of each candidate by itself.
        ratio: (n,) signal-to-noise, 0 where there is no candidate.

    Returns:
        Log odds (n,), and the standard deviation of the error that they share, ().
    """
    own = jnp.concatenate([hidden, logits[:, None] / 4, jnp.log(jnp.maximum(ratio, 0.1))[:, None]], 1)
    frame = _sums(weights, own, logits, ratio)
    width = own.shape[1]
    kernel = weights["context_kernel0"]
    inner = jax.nn.gelu(own @ kernel[:width] + frame @ kernel[width:] + weights["context_bias0"])
    gained = (inner @ weights["context_kernel1"] + weights["context_bias1"])[:, 0]
    inner = jax.nn.gelu(frame @ weights["error_kernel0"] + weights["error_bias0"])
    error = jax.nn.softplus((inner @ weights["error_kernel1"] + weights["error_bias1"])[0])
    return logits + gained, error


def with_shared_errors(logits: jax.Array, error: jax.Array) -> jax.Array:
    """Return the candidates' probabilities for each of `ERRORS`, (errors, n).

    Args:
        logits: (n,) log odds.
        error: standard deviation of the error that they share.
    """
    return jax.nn.sigmoid(logits + error * jnp.asarray(ERRORS)[:, None])


def _sums(weights: dict[str, Any], own: jax.Array, logits: jax.Array, ratio: jax.Array) -> jax.Array:
    """Sum over a frame's candidates what was learnt to sum, and numbers of candidates and of spots among them."""
    summed = (ratio >= LEAST_SUMMED).astype(jnp.float32)
    learnt = jax.nn.softplus(own @ weights["sum_kernel"] + weights["sum_bias"]) * summed[:, None]
    probability = jax.nn.sigmoid(logits)
    doubt = 4 * probability * (1 - probability)
    number = summed.sum()
    counts = [number, (probability * summed).sum(), (doubt * summed).sum()]
    for least in COUNTED_FROM:
        above = jax.nn.sigmoid(2 * (ratio - least)) * summed
        counts += [above.sum(), (above * probability).sum(), (above * doubt).sum()]
    total = learnt.sum(0)
    return jnp.concatenate([jnp.log1p(total), total / (number + 1), jnp.log1p(jnp.stack(counts))])
