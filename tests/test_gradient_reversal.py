"""The gradient reversal layer: identity forward, the gradient times minus the strength backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfxjax.models.gradient_reversal import gradient_reversal

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def loss(x: jax.Array, strength: float | jax.Array, weights: jax.Array | np.ndarray = WEIGHTS) -> jax.Array:
    """Its gradient to the layer's output is cos(output) times the weights."""
    return jnp.sum(jnp.sin(gradient_reversal(x, strength)) * weights)


def expected(strength: float) -> np.ndarray:
    return -strength * np.cos(X) * WEIGHTS


def test_forward_is_the_identity() -> None:
    for x in (X, X.astype(np.float16), jnp.asarray(X, jnp.bfloat16), X[0, 0], X[:0]):
        result = gradient_reversal(x, 0.3)
        assert result.dtype == x.dtype
        np.testing.assert_array_equal(result, x)


@pytest.mark.parametrize("strength", [1.0, 0.25, 0.0, -2.0, 1])
def test_gradient(strength: float) -> None:
    np.testing.assert_allclose(jax.grad(loss)(X, strength), expected(strength), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(X, strength), expected(strength), rtol=1e-6)


def test_gradient_is_exactly_minus_the_strength() -> None:
    gradient = jax.grad(lambda x: gradient_reversal(x, 0.5).sum())(X)
    np.testing.assert_array_equal(gradient, np.full_like(X, -0.5))


def test_strength_receives_no_gradient() -> None:
    to_x, to_strength = jax.grad(loss, argnums=(0, 1))(X, jnp.float32(0.7))
    np.testing.assert_allclose(to_x, expected(0.7), rtol=1e-6)
    assert to_strength == 0


def test_gradient_keeps_the_dtype() -> None:
    x = jnp.asarray(X, jnp.bfloat16)
    gradient = jax.grad(lambda x: gradient_reversal(x, jnp.float32(0.5)).sum())(x)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient.astype(np.float32), np.full_like(X, -0.5))


def test_through_vmap() -> None:
    per_row = jax.vmap(jax.grad(loss), (0, None, 0))(X, 0.7, WEIGHTS)
    np.testing.assert_allclose(per_row, expected(0.7), rtol=1e-6)
    strengths = np.array([0.0, 0.5, 1.0, 2.0], np.float32)
    own = jax.vmap(jax.grad(loss))(X, strengths, WEIGHTS)
    np.testing.assert_allclose(own, strengths[:, None] * expected(1.0), rtol=1e-6)


def test_through_scan() -> None:
    def scanned(x: jax.Array, strength: float) -> jax.Array:
        def step(total: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return total + loss(row[0], strength, row[1]), None

        return jax.lax.scan(step, jnp.float32(0), (x, jnp.asarray(WEIGHTS)))[0]

    np.testing.assert_allclose(jax.grad(scanned)(X, 0.7), expected(0.7), rtol=1e-6)


def test_reversed_at_every_step_of_a_scan() -> None:
    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda y, _: (gradient_reversal(y, 0.5), None), x, None, length=3)[0].sum()

    np.testing.assert_array_equal(jax.grad(chain)(X), np.full_like(X, (-0.5) ** 3))


def test_through_pmap_on_two_devices() -> None:
    assert jax.local_device_count() == 2
    halves, weights = X.reshape(2, 2, 3), WEIGHTS.reshape(2, 2, 3)
    gradient = jax.pmap(jax.grad(loss), in_axes=(0, None, 0))(halves, 0.7, weights)
    np.testing.assert_allclose(np.asarray(gradient).reshape(4, 3), expected(0.7), rtol=1e-6)


def test_pmean_of_reversed_gradients_over_two_devices() -> None:
    assert jax.local_device_count() == 2

    def mean_gradient(x: jax.Array) -> jax.Array:
        return jax.lax.pmean(jax.grad(loss)(x, 0.7, jnp.ones_like(x)), "devices")

    gradient = np.asarray(jax.pmap(mean_gradient, axis_name="devices")(X[:2]))
    mean = -0.7 * np.cos(X[:2]).mean(0)
    np.testing.assert_allclose(gradient, [mean, mean], rtol=1e-6)


def test_a_base_is_trained_against_the_classifier_behind_the_layer() -> None:
    """One step down each own gradient: the classifier lowers the loss, the base raises it."""
    rng = np.random.default_rng(2)
    inputs, domain = rng.normal(size=(64, 3)), jnp.asarray(rng.integers(0, 2, 64), jnp.float32)
    base, head = jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(rng.normal(size=2))

    def domain_loss(base: jax.Array, head: jax.Array) -> jax.Array:
        logits = gradient_reversal(inputs @ base, 1.0) @ head
        return jnp.mean(jnp.logaddexp(0, logits) - domain * logits)

    to_base, to_head = jax.grad(domain_loss, (0, 1))(base, head)
    now = domain_loss(base, head)
    assert domain_loss(base, head - 0.01 * to_head) < now
    assert domain_loss(base - 0.01 * to_base, head) > now
