"""What training makes smaller, one function each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Softens the target's predictions in the class confusion loss; the value of Jin et al. (2020).
CONFUSION_TEMPERATURE = 2.5


def label_loss(logits: jax.Array, positive: jax.Array, fraction: Any) -> jax.Array:
    """Cross entropy of the label classifier, both classes weighing alike whatever their fractions in the batch.

    Args:
        logits: (n,) of the positive class.
        positive: (n,) 1 for the positive class, else 0.
        fraction: of positives among the frames drawn.
    """
    weights = jnp.where(positive > 0.5, 0.5 / fraction, 0.5 / (1 - fraction))
    return (weights * optax.sigmoid_binary_cross_entropy(logits, positive)).mean()


def domain_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Cross entropy of the domain classifier (Ganin et al. 2016, equation 9).

    Args:
        source: (n,) logits that a frame of the source is one of the target.
        target: (m,) logits of target frames.
    """
    right = jnp.concatenate([-source, target])
    return optax.sigmoid_binary_cross_entropy(right, jnp.ones_like(right)).mean()


def class_confusion(logits: jax.Array) -> jax.Array:
    """Measure how often a batch of predictions wavers between the two classes (minimum class confusion).

    Args:
        logits: (n,) of the positive class.

    Returns:
        Fraction of the class correlation that lies off the diagonal, 0 to 1; sure predictions weigh more.

    References:
        Jin et al., ECCV 2020, equations 2 to 8.
    """
    positive = jax.nn.sigmoid(logits / CONFUSION_TEMPERATURE)
    classes = jnp.stack([1 - positive, positive], axis=-1)
    entropy = -(classes * jnp.log(jnp.clip(classes, 1e-7))).sum(-1)
    certainty = 1 + jnp.exp(-entropy)
    # The weights are no way to make the loss smaller.
    weights = jax.lax.stop_gradient(len(logits) * certainty / certainty.sum())
    confusion = jnp.einsum("nc,n,nd->cd", classes, weights, classes)
    confusion = confusion / confusion.sum(1, keepdims=True)
    return (confusion.sum() - jnp.trace(confusion)) / 2


def pseudo_label_loss(logits: jax.Array, pseudo_labels: jax.Array) -> jax.Array:
    """Cross entropy on pseudo-labels, both classes weighing alike; 0 where a batch has none.

    Args:
        logits: (n,).
        pseudo_labels: (n,) 0 or 1, NaN without one.
    """
    known = jnp.isfinite(pseudo_labels)
    truth = jnp.where(known, pseudo_labels, 0)
    losses = optax.sigmoid_binary_cross_entropy(logits, truth)
    sides = [known & (truth > 0.5), known & (truth < 0.5)]
    means = [jnp.sum(jnp.where(side, losses, 0)) / jnp.maximum(side.sum(), 1) for side in sides]
    return (means[0] + means[1]) / 2


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Mean binary cross entropy of (n,) logits, nats."""
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - logits * np.asarray(truth)))
