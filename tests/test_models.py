"""The networks' parts against NumPy, and what their docstrings claim."""

from __future__ import annotations

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from sfxjax.errors import UserError
from sfxjax.models.layers import Dropout
from sfxjax.models.networks import (
    ConvolutionalBase,
    DomainAdversarialNetwork,
    HitClassifier,
    parameter_count,
)
from sfxjax.models.stem import (
    BaseConfig,
    asinh_scaling,
    block_extrema,
    frame_noise,
    plain_base,
    space_to_depth,
    stem,
)

pytestmark = pytest.mark.usefixtures("compiled_at_once")

SMALL = BaseConfig(channels=(3, 4), features=5)


def frames(count: int = 2, ss: int = 24, fs: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, ss, fs)).astype(np.float32)


def test_block_extrema_against_loops() -> None:
    values = frames()
    got = np.asarray(block_extrema(jnp.asarray(values), 8))
    assert got.shape == (2, 3, 2, 2)
    for n, i, j in np.ndindex(2, 3, 2):
        block = values[n, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
        assert got[n, i, j].tolist() == [block.max(), -block.min()]


def test_space_to_depth_against_loops() -> None:
    values = frames()
    got = np.asarray(space_to_depth(jnp.asarray(values), 4))
    assert got.shape == (2, 6, 4, 16)
    for n, i, j in np.ndindex(2, 6, 4):
        np.testing.assert_array_equal(got[n, i, j], values[n, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].ravel())


def test_compress_is_linear_in_the_noise_and_logarithmic_above() -> None:
    values = np.array([-4.0, -0.03, -1e-4, 0.0, 1e-4, 0.03, 0.4, 4.0])
    got = np.asarray(asinh_scaling(jnp.asarray(values)), np.float64)
    scaled = values / 0.05
    np.testing.assert_allclose(
        got, np.sign(scaled) * np.log(np.abs(scaled) + np.hypot(scaled, 1)), rtol=2e-6, atol=1e-9
    )
    np.testing.assert_allclose(got[4], 1e-4 / 0.05, rtol=1e-4)
    np.testing.assert_allclose(got[7] - got[6], np.log(10), rtol=5e-3)
    assert asinh_scaling(jnp.asarray(values, jnp.bfloat16)).dtype == jnp.float32


def test_stem_of_frames_and_of_vectors() -> None:
    image = jnp.asarray(frames())
    pixels = BaseConfig(spot=1, noise_normalised=False)
    np.testing.assert_array_equal(stem(image, pixels), asinh_scaling(block_extrema(image, 8)))
    sums = np.array(
        [3 * uniform_filter(frame.astype(float), 3, mode="constant") for frame in image], np.float32
    )
    expected = asinh_scaling(block_extrema(jnp.asarray(sums), 8))
    np.testing.assert_allclose(stem(image, BaseConfig(noise_normalised=False)), expected, rtol=1e-5)
    other = BaseConfig(stem="space_to_depth", block=4)
    np.testing.assert_array_equal(stem(image, other), asinh_scaling(space_to_depth(image, 4)))
    vectors = BaseConfig(dimensions=1, noise_normalised=False)
    assert stem(image[:, 0], vectors).shape == (2, 16, 1)
    np.testing.assert_array_equal(stem(image, vectors), asinh_scaling(image))


def test_noise_normalised_makes_frames_alike_that_differ_in_a_factor_alone() -> None:
    images = jnp.asarray(frames(2, 48, 48))
    images = images.at[1, 8:16, :8].set(0)
    maps = stem(images, BaseConfig())
    np.testing.assert_allclose(stem(images * 37, BaseConfig()), maps, rtol=1e-4)
    assert not np.allclose(stem(images * 37, BaseConfig(noise_normalised=False)), maps, rtol=0.5)
    assert np.all(np.isfinite(stem(0 * images, BaseConfig())))


def test_noise_normalised_makes_vectors_alike_too_and_fills_their_gaps() -> None:
    extents = np.random.default_rng(3).gamma(20, 0.02, (3, 90, 2)).astype(np.float32)
    extents[0, :5] *= 30
    extents[1, 40:60] = 0
    config = BaseConfig(dimensions=1)
    vectors = np.asarray(stem(jnp.asarray(extents), config))
    np.testing.assert_allclose(stem(jnp.asarray(extents) * 37, config), vectors, rtol=1e-4)
    valid = np.delete(vectors[1], np.s_[40:60], axis=0)
    np.testing.assert_allclose(vectors[1, 40:60], np.broadcast_to(valid.mean(0), (20, 2)), rtol=1e-5)
    # Of a frame with five bright rows, the others stay what they are without.
    np.testing.assert_allclose(np.median(vectors[0]), np.median(vectors[2]), rtol=0.1)
    assert np.all(np.asarray(stem(jnp.zeros((1, 90)), config)) == 0)


def test_the_noise_of_a_frame_is_near_the_median_of_its_blocks_whatever_its_few_edges() -> None:
    rng = np.random.default_rng(5)
    depths = rng.gamma(20, 0.05, (2, 30, 30)).astype(np.float32)
    valid = rng.random(depths.shape) > 0.2
    # Edges of a shadow reach far below 0, and blocks without data do not count.
    depths[:, 3] = 50
    depths[~valid] = 0
    expected = [np.median(depth[good]) for depth, good in zip(depths, valid, strict=True)]
    np.testing.assert_allclose(frame_noise(jnp.asarray(depths), jnp.asarray(valid)), expected, rtol=0.25)


@pytest.mark.parametrize("spot", [0, 2, -3, 1.5, "3"])
def test_squares_without_a_middle_are_refused(spot: object) -> None:
    with pytest.raises(UserError, match="give an odd number"):
        BaseConfig(spot=spot)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "scale", [1e6, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (0.0, 1.0, 1e3))]
)
def test_features_are_bounded_however_bright_the_frame(scale: float) -> None:
    maps = stem(scale * jnp.asarray(frames(3, 48, 48)), SMALL)
    base = ConvolutionalBase(SMALL)
    variables = base.init(jax.random.key(0), maps)
    features = np.asarray(base.apply(variables, maps))
    assert features.shape == (3, SMALL.features)
    assert features.dtype == np.float32
    assert np.all(np.abs(features) <= 1)


def test_features_do_not_depend_on_the_other_frames_outside_training() -> None:
    maps = stem(jnp.asarray(frames(4, 48, 48)), SMALL)
    base = ConvolutionalBase(SMALL)
    variables = base.init(jax.random.key(0), maps)
    together = base.apply(variables, maps)
    one_by_one = jnp.concatenate([base.apply(variables, one[None]) for one in maps])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_dropout_and_batch_statistics_work_in_training_alone() -> None:
    config = BaseConfig(channels=(3, 4), features=5, dropout=0.5)
    maps = stem(jnp.asarray(frames(4, 48, 48)), config)
    base = ConvolutionalBase(config)
    variables = base.init(jax.random.key(0), maps)

    def train(seed: int):
        rngs = {"dropout": jax.random.key(seed)}
        return base.apply(variables, maps, train=True, mutable=["batch_stats"], rngs=rngs)

    (first, changed), (second, _) = train(1), train(2)
    assert not np.allclose(first, second)
    before, after = variables["batch_stats"]["normalization_0"], changed["batch_stats"]["normalization_0"]
    assert not np.allclose(before["mean"], after["mean"])


def test_dropout_takes_its_share_and_makes_up_for_it() -> None:
    values = 1 + jnp.abs(jnp.asarray(frames(4, 60, 60)))

    def dropped(values: jax.Array, seed: int = 1) -> jax.Array:
        layer = Dropout(0.25)
        return layer.apply({}, values, deterministic=False, rngs={"dropout": jax.random.key(seed)})

    first = np.asarray(dropped(values))
    kept = first != 0
    np.testing.assert_allclose(first[kept], np.asarray(values)[kept] / 0.75, rtol=1e-6)
    # Five standard deviations of so many draws.
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / kept.size)
    assert np.any(kept != (np.asarray(dropped(values, seed=2)) != 0))
    slope = jax.jit(jax.grad(lambda values: dropped(values).sum()))(values)
    np.testing.assert_allclose(slope, np.where(kept, 1 / 0.75, 0), rtol=1e-6)


def test_the_networks_share_the_base_and_the_label_head() -> None:
    maps = stem(jnp.asarray(frames(2, 48, 48)), SMALL)
    network = DomainAdversarialNetwork(SMALL)
    variables = network.init(jax.random.key(0), maps)
    params = dict(variables["params"])
    params.pop("domain_head")
    shared = {"params": params, "batch_stats": variables["batch_stats"]}
    label, domain = network.apply(variables, maps)
    np.testing.assert_allclose(HitClassifier(SMALL).apply(shared, maps), label, rtol=1e-6)
    assert label.shape == domain.shape == (2,)
    features = HitClassifier(SMALL).apply(shared, maps, method="features")
    assert features.shape == (2, SMALL.features)


def test_the_docstring_tells_the_default_networks_size_and_cost() -> None:
    """Counted here from the shapes: convolutions over same-padded maps, each followed by a halving."""
    config = BaseConfig()
    side, inputs = 720 // config.block, 2
    multiply_adds, convolutions, normalizations = 0, 0, 0
    for channels in config.channels:
        convolutions += 9 * inputs * channels
        normalizations += 2 * channels
        multiply_adds += side * side * 9 * inputs * channels
        side, inputs = side // 2, channels
    normalizations += 2 * inputs
    dense = inputs * config.features + config.features
    multiply_adds += inputs * config.features
    parameters = convolutions + normalizations + dense

    maps = stem(jnp.zeros((1, 720, 720)), config)
    variables = jax.eval_shape(lambda: ConvolutionalBase(config).init(jax.random.key(0), maps))
    assert parameter_count(variables["params"]) == parameters

    text = " ".join((ConvolutionalBase.__doc__ or "").split())
    claimed = re.search(r"has ([\d,]+) parameters and takes ([\d.]+) million multiply-adds a frame", text)
    assert claimed is not None
    assert int(claimed[1].replace(",", "")) == parameters
    assert claimed[2] == f"{multiply_adds / 1e6:.1f}"
    assert f"would take {720 * 720 * 9 * 4 / 1e6:.0f} million" in text


@pytest.mark.parametrize("fields", [{"dimensions": 3}, {"dimensions": 0}, {"stem": "strided"}])
def test_bases_that_do_not_exist_are_refused(fields: dict) -> None:
    with pytest.raises(UserError, match="no convolutional base"):
        BaseConfig(**fields)


def test_a_base_is_described_in_json_and_made_of_it_again() -> None:
    config = BaseConfig(channels=(5, 6, 7), stem="space_to_depth", block=4)
    assert BaseConfig(**config.to_json()) == config


def test_masked_blocks_take_the_mean_of_the_others() -> None:
    frame = np.random.default_rng(3).normal(size=(1, 48, 48)).astype(np.float32)
    holed = frame.copy()
    # A pixel more, since sums reach as far over the rim.
    holed[0, 7:25, 15:33] = 0
    config = BaseConfig(noise_normalised=False)
    maps = np.asarray(stem(jnp.asarray(holed), config))
    sums = 3 * uniform_filter(holed[0].astype(float), 3, mode="constant")
    blocks = sums.reshape(1, 6, 8, 6, 8)
    expected = np.arcsinh(np.stack([blocks.max((2, 4)), -blocks.min((2, 4))], -1) / 0.05)
    valid = np.ones((6, 6), bool)
    valid[1:3, 2:4] = False
    expected[0][~valid] = expected[0][valid].mean(axis=0)
    np.testing.assert_allclose(maps, expected, rtol=1e-5)
    assert np.all(np.isfinite(stem(jnp.zeros((1, 48, 48)), config)))


@pytest.mark.slow
def test_a_trained_models_score_does_not_depend_on_how_the_frame_lies() -> None:
    from sfxjax.models.checkpoint import TrainedModel
    from sfxjax.models.networks import HitClassifier

    config = BaseConfig(channels=(3, 4))
    frame = np.random.default_rng(4).standard_t(2, size=(96, 96)).astype(np.float32)
    square = [np.rot90(frame, k) for k in range(4)]
    frames = jnp.asarray(np.stack(square + [turned.T for turned in square]))
    variables = HitClassifier(config).init(jax.random.key(0), stem(frames, config))
    # A small variance makes the blocks respond.
    variables = variables | {"batch_stats": jax.tree.map(lambda leaf: 0.05 * leaf, variables["batch_stats"])}
    alone = HitClassifier(config).apply(variables, stem(frames, config))
    assert np.ptp(alone) > 1e-3, "the network itself does depend on it"
    logits = TrainedModel(config, variables).logits(frames)
    np.testing.assert_allclose(logits, logits[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[0], np.mean(alone), rtol=1e-4, atol=1e-5)


def test_the_plain_network_has_the_size_that_its_docstring_tells() -> None:
    config = plain_base()
    maps = stem(jnp.zeros((1, 720, 720)), config)
    params = jax.eval_shape(lambda: HitClassifier(config).init(jax.random.key(0), maps))["params"]
    side, inputs, multiply_adds = 720 // config.block, 1, 0
    for channels in config.channels:
        multiply_adds += side * side * 9 * inputs * channels
        side, inputs = side // 2, channels
    multiply_adds += side * side * inputs * 32 + 32
    text = " ".join((plain_base.__doc__ or "").split())
    claimed = re.search(r"has ([\d,]+) parameters, ([\d,]+) of .* takes ([\d.]+) million multiply-adds", text)
    assert claimed is not None
    counts = [int(claimed[group].replace(",", "")) for group in (1, 2)]
    assert counts == [parameter_count(params), parameter_count(params["label_head"])]
    assert claimed[3] == f"{multiply_adds / 1e6:.1f}"


def test_the_plain_network_is_convolution_normalisation_relu_and_pooling_of_the_pixels() -> None:
    """Against the same layers from flax."""
    config = dataclasses.replace(plain_base(2), channels=(3, 4), dropout=0.0)
    image = jnp.asarray(frames(2, 32, 32))
    maps = stem(image, config)
    np.testing.assert_allclose(
        maps[..., 0], np.asarray(image).reshape(2, 16, 2, 16, 2).mean((2, 4)), rtol=1e-4, atol=1e-6
    )
    variables = ConvolutionalBase(config).init(jax.random.key(1), maps)
    values = maps
    for level, channels in enumerate(config.channels):
        name = f"convolution_{level}", f"normalization_{level}"
        params, statistics = variables["params"], variables["batch_stats"]
        values = nn.Conv(channels, (3, 3), use_bias=False).apply({"params": params[name[0]]}, values)
        values, _ = nn.BatchNorm(use_running_average=False).apply(
            {"params": params[name[1]], "batch_stats": statistics[name[1]]}, values, mutable=["batch_stats"]
        )
        values = nn.max_pool(nn.relu(values), (2, 2), (2, 2))
    found, _ = ConvolutionalBase(config).apply(variables, maps, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(found, values.reshape(2, -1), rtol=1e-3, atol=1e-4)


def test_a_binning_that_does_not_divide_the_frame_is_refused() -> None:
    with pytest.raises(UserError, match="--binning must be one of"):
        plain_base(7)
