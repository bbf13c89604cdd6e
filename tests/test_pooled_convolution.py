"""The convolution with its pooling against NumPy and float64 derivatives, and the bases made of it against Flax's layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfxjax.models.networks import ConvolutionalBase
from sfxjax.models.pooled_convolution import pooled_convolution, pooled_convolution_and_moments
from sfxjax.models.stem import BaseConfig

# Even and odd sizes, one and two axes, few channels and more than a few.
SHAPES = [(3, 10, 12, 2), (2, 7, 10, 8), (4, 16, 1), (4, 15, 3)]
LAYOUTS = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}


def arrays(shape: tuple[int, ...], channels: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sum(shape))
    kernel = rng.normal(size=(3,) * (len(shape) - 2) + (shape[-1], channels))
    return rng.normal(1, 1, shape), kernel, np.arange(channels) % 3 != 1


def convolve(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Sum the products of the kernel and every place's neighbours, one place of the kernel after the other."""
    places = values.shape[1:-1]
    padded = np.pad(values, [(0, 0), *((1, 1) for _ in places), (0, 0)])
    total = np.zeros((*values.shape[:-1], kernel.shape[-1]))
    for start in np.ndindex(*kernel.shape[: len(places)]):
        window = tuple(slice(first, first + length) for first, length in zip(start, places, strict=True))
        total += padded[(slice(None), *window)] @ kernel[start]
    return total


def pool(values: np.ndarray, largest: np.ndarray) -> np.ndarray:
    for axis in range(1, values.ndim - 1):
        half = values.shape[axis] // 2
        pairs = [np.take(values, 2 * np.arange(half) + place, axis) for place in (0, 1)]
        values = np.where(largest, np.maximum(*pairs), np.minimum(*pairs))
    return values


def max_pool(values: jax.Array) -> jax.Array:
    window = (2,) * (values.ndim - 2)
    return nn.max_pool(values, window, strides=window)


def plain(values: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    axes = tuple(range(values.ndim - 1))
    layout = LAYOUTS[len(axes) - 1]
    convolved = jax.lax.conv_general_dilated(
        values, kernel, (1,) * (len(axes) - 1), "SAME", dimension_numbers=layout
    )
    return max_pool(convolved), convolved.mean(axes), convolved.var(axes)


def close(result: Any, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_numpy(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], backend: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    values, kernel, rising = arrays(shape)
    convolved = convolve(values, kernel)
    expected = pool(convolved, rising)
    axes = tuple(range(values.ndim - 1))
    arguments = jnp.float32(values), jnp.float32(kernel), jnp.asarray(rising)
    close(jax.jit(pooled_convolution)(*arguments), expected)
    pooled, mean, variance = jax.jit(pooled_convolution_and_moments)(*arguments)
    close(pooled, expected)
    close(mean, convolved.mean(axes))
    close(variance, convolved.var(axes))
    turned, *_ = jax.jit(partial(pooled_convolution_and_moments, batch_last=True))(*arguments)
    close(turned, np.moveaxis(expected, (-1, 0), (0, -1)))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], backend: str) -> None:
    values, kernel, _ = arrays(shape)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(plain, jnp.float32(values), jnp.float32(kernel))
    cotangents = [rng.normal(size=shape.shape) for shape in shapes]

    def derivatives(function: Any, dtype: Any) -> Any:
        @jax.jit
        def back(values: jax.Array, kernel: jax.Array, cotangents: Any) -> Any:
            return jax.vjp(function, values, kernel)[1](tuple(cotangents))

        return [np.asarray(part) for part in back(*jax.tree.map(dtype, (values, kernel, cotangents)))]

    with jax.enable_x64(True):
        expected = derivatives(plain, jnp.float64)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    rising = jnp.ones(kernel.shape[-1], bool)
    results = derivatives(partial(pooled_convolution_and_moments, rising=rising), jnp.float32)
    for result, part in zip(results, expected, strict=True):
        close(result, part)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_equal_values_share_the_derivative(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1

    def total(values: jax.Array) -> jax.Array:
        return pooled_convolution_and_moments(values, jnp.asarray(kernel), jnp.ones(1, bool))[0].sum()

    derivative = jax.jit(jax.grad(total))(jnp.asarray([[7.0, 7, 1, 2], [7, 7, 3, 3]])[None, ..., None])
    np.testing.assert_array_equal(derivative[0, ..., 0], [[0.25, 0.25, 0, 0], [0.25, 0.25, 0.5, 0.5]])


class FlaxBase(nn.Module):
    """The base as its text describes it, of Flax's own layers."""

    config: BaseConfig

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool = False) -> jax.Array:
        values = maps
        for level, channels in enumerate(self.config.channels):
            name = f"convolution_{level}"
            values = nn.Conv(channels, (3,) * self.config.dimensions, use_bias=False, name=name)(values)
            values = nn.BatchNorm(
                momentum=0.95, bias_init=nn.initializers.constant(-2.0), name=f"normalization_{level}"
            )(values, use_running_average=not train)
            values = jnp.tanh(max_pool(nn.relu(values)))
        counts = jnp.log1p(values.sum(axis=tuple(range(1, values.ndim - 1))))
        counts = nn.BatchNorm(momentum=0.95, name="normalization_counts")(
            counts, use_running_average=not train
        )
        return jnp.tanh(nn.Dense(self.config.features, name="features")(counts))


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (BaseConfig(channels=(4, 6), dropout=0.0), (6, 18, 18, 2)),
        pytest.param(
            BaseConfig(dimensions=1, channels=(4, 6, 5), dropout=0.0), (6, 36, 1), marks=pytest.mark.slow
        ),
    ],
)
def test_a_base_is_that_of_flax_layers(config: BaseConfig, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    maps = jnp.float32(rng.normal(1, 1, shape))
    ours, theirs = ConvolutionalBase(config), FlaxBase(config)
    variables = jax.jit(ours.init)(jax.random.key(0), maps)
    jax.tree.map(np.testing.assert_array_equal, variables, jax.jit(theirs.init)(jax.random.key(0), maps))
    # Weights and statistics of a trained network: slopes of either sign, noise above 0, moments of their own.
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), variables["params"])
    for level in range(len(config.channels)):
        params[f"normalization_{level}"]["bias"] += 2
    params["normalization_0"]["scale"] = params["normalization_0"]["scale"].at[1].set(-0.7)
    batch_stats = jax.tree.map(
        lambda leaf: jnp.abs(leaf + 0.3 * rng.normal(size=leaf.shape)), variables["batch_stats"]
    )
    variables = jax.tree.map(jnp.float32, {"params": params, "batch_stats": batch_stats})
    features = np.asarray(jax.jit(theirs.apply)(variables, maps))
    assert np.ptp(features, axis=0).max() > 0.01
    np.testing.assert_allclose(jax.jit(ours.apply)(variables, maps), features, atol=1e-5)

    def trained(base: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            everything = variables | {"params": params}
            features, changed = base.apply(everything, maps, train=True, mutable=["batch_stats"])
            return jnp.sum(features**2), (features, changed["batch_stats"])

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    (gradient, (features, statistics)), (exact, (wanted, running)) = trained(ours), trained(theirs)
    np.testing.assert_allclose(features, wanted, atol=1e-3)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), statistics, running)
    jax.tree.map(lambda one, other: close(one, np.asarray(other), 2e-3), gradient, exact)
