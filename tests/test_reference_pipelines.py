"""The pipelines that ours is compared with give what ours gives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bench.throughput.reference_pipelines import (
    scipy_preprocess,
    scipy_row_wise_decomposition,
    torch_classifier,
    torch_logits,
    torch_maps,
    torch_training_step,
)
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.preprocess.definition import preprocess
from sfxjax.reductions.reduce import preprocess_and_reduce


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 5e-6)])
def test_scipy(dtype: type, tolerance: float) -> None:
    frame = np.random.default_rng(0).normal(40, 4, (730, 760)).astype(np.int32)
    frame[100, 100:110] = -3 - np.arange(10)
    frame[400, 500] = 30000
    np.testing.assert_allclose(scipy_preprocess(frame, dtype), preprocess(frame), atol=tolerance)
    rows = scipy_row_wise_decomposition(frame, dtype)
    np.testing.assert_allclose(rows, preprocess_and_reduce(frame), atol=2 * tolerance)


@pytest.fixture(
    params=[
        (BaseConfig(channels=(4, 6)), (5, 18, 18, 2)),
        (BaseConfig(dimensions=1, channels=(4, 6, 5)), (5, 40, 1)),
    ],
    ids=["2d", "1d"],
)
def network(request: pytest.FixtureRequest) -> tuple[BaseConfig, dict[str, Any], np.ndarray]:
    """A network whose logits differ from frame to frame, and maps for it."""
    pytest.importorskip("torch")
    config, shape = request.param
    rng = np.random.default_rng(1)
    maps = rng.normal(1, 1, shape).astype(np.float32)
    variables = jax.jit(HitClassifier(config).init)(jax.random.key(0), maps)
    variables = jax.tree.map(lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape), variables)
    variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    variables = jax.tree.map(np.float32, variables)
    for level in range(len(config.channels)):
        line = variables["params"]["base"][f"normalization_{level}"]
        line["bias"] = line["bias"] + 2
    return config, variables, maps


def test_torch_inference(network: tuple[BaseConfig, dict[str, Any], np.ndarray]) -> None:
    config, variables, maps = network
    expected = np.asarray(jax.jit(HitClassifier(config).apply)(variables, maps))
    assert np.ptp(expected) > 0.01
    infer = torch_logits(torch_classifier(config, variables))
    np.testing.assert_allclose(infer(torch_maps(maps)).numpy(), expected, atol=1e-4)


def test_torch_training_step(network: tuple[BaseConfig, dict[str, Any], np.ndarray]) -> None:
    """Without dropout, whose draws differ: the same loss, and the same loss after one step of AdamW."""
    torch = pytest.importorskip("torch")
    config, variables, maps = network
    config = BaseConfig(dimensions=config.dimensions, channels=config.channels, dropout=0.0)
    labels = np.array([1, 0, 0, 1, 1], np.float32)
    optimizer = optax.adamw(1e-2, weight_decay=1e-3)

    @jax.jit
    def losses(variables: dict[str, Any]) -> list[jax.Array]:
        params, batch_stats = variables["params"], variables["batch_stats"]

        def loss(params: Any) -> jax.Array:
            logits, _ = HitClassifier(config).apply(
                {"params": params, "batch_stats": batch_stats}, maps, train=True, mutable=["batch_stats"]
            )
            return optax.sigmoid_binary_cross_entropy(jnp.asarray(logits), labels).mean()

        before, gradient = jax.value_and_grad(loss)(params)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return [before, loss(optax.apply_updates(params, updates))]

    expected = np.asarray(losses(variables))
    assert abs(expected[0] - expected[1]) > 1e-3
    step = torch_training_step(torch_classifier(config, variables), 1e-2, 1e-3)
    results = [float(step(torch_maps(maps), torch.from_numpy(labels))) for _ in range(2)]
    np.testing.assert_allclose(results, expected, atol=1e-3)
