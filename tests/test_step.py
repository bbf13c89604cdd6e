"""The training step: its gradient, its mapping over devices, its orientations."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from sfxjax.models.networks import DomainAdversarialNetwork, rotate_flip
from sfxjax.models.stem import BaseConfig
from sfxjax.training.losses import cross_entropy
from sfxjax.training.mapping import first_replica, mapped_steps, replicate, split_over_devices
from sfxjax.training.sampling import draw_epoch, reversal_strength
from sfxjax.training.step import BatchIndices, Domains, new_state, training_step

pytestmark = pytest.mark.usefixtures("compiled_at_once")

CONFIG = BaseConfig(channels=(3, 4), features=5, dropout=0.0)
KEY = jax.random.key(7)


def domains(seed: int = 0, count: int = 24) -> Domains:
    rng = np.random.default_rng(seed)
    positive = np.arange(count) % 3 == 0
    source = rng.normal(size=(count, 12, 12, 2)) + positive[:, None, None, None]
    target = 0.6 * rng.normal(size=(count, 12, 12, 2)) + 0.3
    return Domains(
        jnp.asarray(source, jnp.float32), jnp.asarray(positive, jnp.float32), jnp.asarray(target, jnp.float32)
    )


def drawn(data: Domains, steps: int = 3, batch: int = 8, strength: float = 0.7) -> BatchIndices:
    return draw_epoch(
        np.asarray(data.positive) > 0,
        len(data.source),
        epoch=1,
        epochs=2,
        steps=steps,
        batch=batch,
        strength=strength,
        seed=3,
    )


def test_gradient_is_that_of_the_two_losses_with_the_domain_one_reversed_in_the_base() -> None:
    """Against plain gradients of the two losses, without any reversal layer."""
    data = domains()
    draw = jax.tree.map(lambda leaf: leaf[0], drawn(data))._replace(orientation=np.int32(0))
    state = new_state(CONFIG, optax.sgd(1.0), data.source[:1], seed=1)
    after, _ = jax.jit(training_step(CONFIG, optax.sgd(1.0)))(state, data, draw, KEY)
    moved = jax.tree.map(lambda old, new: old - new, state.params, after.params)

    network = DomainAdversarialNetwork(CONFIG)

    def heads(params, domain, maps):
        """Each domain in a pass of its own; at this strength the layer passes gradients as they are."""
        variables = {"params": params, "batch_stats": state.batch_stats[domain]}
        return network.apply(variables, maps, -1.0, train=True, mutable=["batch_stats"])

    def label_loss(params):
        (logits, _), _ = heads(params, "source", data.source[draw.source])
        truth = data.positive[draw.source]
        return jnp.mean(jnp.logaddexp(0, logits) - truth * logits)

    def domain_loss(params):
        (_, source), _ = heads(params, "source", data.source[draw.source])
        (_, target), _ = heads(params, "target", data.target[draw.target])
        return (jnp.mean(jnp.logaddexp(0, source)) + jnp.mean(jnp.logaddexp(0, -target))) / 2

    label = jax.jit(jax.grad(label_loss))(state.params)
    domain = jax.jit(jax.grad(domain_loss))(state.params)
    expected = {
        "base": jax.tree.map(lambda a, b: a - draw.strength * b, label["base"], domain["base"]),
        "label_head": label["label_head"],
        "domain_head": domain["domain_head"],
    }
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(domain["base"]))
    assert size > 1e-3, "the domain loss must reach the base for this test to mean anything"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-4), moved, expected)

    for name, maps in (("source", data.source[draw.source]), ("target", data.target[draw.target])):
        _, changed = jax.jit(heads, static_argnums=1)(state.params, name, maps)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            after.batch_stats[name],
            changed["batch_stats"],
        )


def test_a_domain_is_normalised_by_its_own_batch_alone() -> None:
    data = domains()
    draw = jax.tree.map(lambda leaf: leaf[0], drawn(data))
    state = new_state(CONFIG, optax.sgd(1.0), data.source[:1], seed=1)
    step = jax.jit(training_step(CONFIG, optax.sgd(1.0)))
    after, losses = step(state, data, draw, KEY)
    other, other_losses = step(state, data._replace(target=5 * data.target + 1), draw, KEY)
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats["source"], other.batch_stats["source"])
    assert float(losses.label) == float(other_losses.label)
    target = [state.batch_stats["target"]["base"]["normalization_0"] for state in (after, other)]
    assert not np.allclose(target[0]["var"], target[1]["var"])


def test_two_devices_train_as_one() -> None:
    devices = jax.local_devices()
    assert len(devices) >= 2
    data, optimizer = domains(), optax.adam(1e-2)
    draw = drawn(data)
    ends = []
    for chosen in (devices[:1], devices[:2]):
        state = replicate(new_state(CONFIG, optimizer, data.source[:1], seed=1), chosen)
        run = mapped_steps(CONFIG, optimizer, chosen)
        state, losses = run(state, replicate(data, chosen), split_over_devices(draw, len(chosen)), KEY)
        ends.append((first_replica(state), losses))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-3), *ends)
    assert int(ends[0][0].step) == len(draw.strength)


@pytest.mark.filterwarnings("error:.*(pmap|shard_map):DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_pmap_trains_as_shard_map_does(steps_per_call: int) -> None:
    """The same body mapped by `jax.shard_map` over the same two devices, with each device's own dropout."""
    devices = jax.local_devices()[:2]
    # A shape of its own, so that no other test has compiled it before warnings are errors.
    config = replace(CONFIG, features=6, dropout=0.2)
    data, optimizer = domains(), optax.adam(1e-2)
    draw = split_over_devices(drawn(data), 2)
    state = new_state(config, optimizer, data.source[:1], seed=1)
    body = training_step(config, optimizer, "shards")

    def shard(state, data, draw):
        def one(state, indices):
            key = jax.random.fold_in(jax.random.fold_in(KEY, state.step), jax.lax.axis_index("shards"))
            return body(state, data, indices, key)

        return jax.lax.scan(one, state, jax.tree.map(lambda leaf: leaf[0], draw))

    everywhere, divided = PartitionSpec(), PartitionSpec("shards")
    # Gradients, statistics and losses are averaged in the body, which the check of replication would average again.
    by_shard_map = jax.shard_map(
        shard,
        mesh=Mesh(np.array(devices), ("shards",)),
        in_specs=(everywhere, everywhere, divided),
        out_specs=everywhere,
        check_vma=False,
    )
    expected, expected_losses = jax.jit(by_shard_map)(state, data, draw)
    run = mapped_steps(config, optimizer, devices, steps_per_call)
    found, losses = run(replicate(state, devices), replicate(data, devices), draw, KEY)
    assert int(expected.step) == 3
    np.testing.assert_allclose(losses.label, expected_losses.label, rtol=1e-5)
    np.testing.assert_allclose(losses.domain, expected_losses.domain, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), first_replica(found), expected
    )
    for copy in jax.tree.leaves(found):
        np.testing.assert_array_equal(copy[0], copy[1])


def test_mapped_steps_are_the_body_one_after_the_other() -> None:
    devices = jax.local_devices()[:1]
    data, optimizer = domains(), optax.adam(1e-2)
    draw = drawn(data)
    state = new_state(CONFIG, optimizer, data.source[:1], seed=1)
    body = jax.jit(training_step(CONFIG, optimizer))
    expected = state
    for number in range(len(draw.strength)):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], draw)
        expected, _ = body(expected, data, one, KEY)
    run = mapped_steps(CONFIG, optimizer, devices)
    done = []
    result, _ = run(
        replicate(state, devices), replicate(data, devices), split_over_devices(draw, 1), KEY, done.append
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), first_replica(result), expected
    )
    assert sum(done) == len(draw.strength)


def test_without_a_target_the_domain_head_rests_and_the_base_learns_from_labels_alone() -> None:
    data = domains()
    draw = jax.tree.map(lambda leaf: leaf[0], drawn(data, strength=5.0))
    state = new_state(CONFIG, optax.sgd(1.0), data.source[:1], seed=1, domains=("source",))
    step = jax.jit(training_step(CONFIG, optax.sgd(1.0)))
    assert set(state.batch_stats) == {"source"}
    alone, losses = step(state, data._replace(target=None), draw, KEY)
    again, _ = step(state, data._replace(target=None), draw._replace(strength=np.float32(0)), KEY)
    assert float(losses.domain) == 0
    jax.tree.map(np.testing.assert_array_equal, alone.params["domain_head"], state.params["domain_head"])
    jax.tree.map(np.testing.assert_array_equal, alone.params, again.params)


def test_orientations_are_the_eight_of_a_square() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    seen = [np.asarray(rotate_flip(jnp.asarray(maps), jnp.int32(number))) for number in range(8)]
    turned = [np.rot90(maps, k, axes=(1, 2)) for k in range(4)]
    square = turned + [np.swapaxes(frame, 1, 2) for frame in turned]
    for frame in square:
        assert sum(np.allclose(frame, other, atol=1e-6) for other in seen) == 1


def test_draws_are_balanced_complete_and_repeatable() -> None:
    positive = np.arange(40) % 5 == 0
    settings = {"epoch": 2, "epochs": 5, "steps": 10, "batch": 8, "strength": 1.0, "seed": 4}
    draw = draw_epoch(positive, 30, **settings)
    assert np.all(positive[draw.source].sum(axis=1) == 4)
    # Eighty negatives are asked of 32: each comes once or twice more than the others at most.
    negatives = np.bincount(draw.source[~positive[draw.source]], minlength=40)[~positive]
    assert negatives.max() - negatives.min() <= 1
    assert np.ptp(np.bincount(draw.target.ravel(), minlength=30)) <= 1
    jax.tree.map(np.testing.assert_array_equal, draw, draw_epoch(positive, 30, **settings))
    other = draw_epoch(positive, 30, **(settings | {"epoch": 3}))
    assert not np.array_equal(draw.source, other.source)
    shared = split_over_devices(draw, 2)
    assert shared.source.shape == (2, 10, 4)
    assert np.all(positive[shared.source].sum(axis=2) == 2), "every device's share is balanced too"


@pytest.mark.parametrize("share", [0.1, 0.37, 0.5, 0.9])
def test_draws_have_the_share_of_positives_that_is_asked_for(share: float) -> None:
    positive = np.arange(40) % 5 == 0
    draw = draw_epoch(
        positive, 0, epoch=0, epochs=5, steps=10, batch=16, strength=1.0, seed=4, fraction=share
    )
    hits = positive[draw.source]
    assert np.all(np.abs(hits.sum(axis=1) - 16 * share) < 1)
    assert abs(hits.sum() - 160 * share) < 1
    np.testing.assert_allclose(draw.fraction, share, rtol=1e-6)
    assert np.ptp(np.bincount(draw.source[hits], minlength=40)[positive]) <= 1
    halves = positive[split_over_devices(draw, 2).source].sum(axis=2)
    assert np.all(np.abs(halves[0] - halves[1]) <= 1), "every device has its part of either class"


def test_the_label_loss_weighs_both_classes_alike_whatever_their_share() -> None:
    data = domains()._replace(target=None)
    positive = np.asarray(data.positive) > 0
    places = np.concatenate([np.flatnonzero(positive)[:2], np.flatnonzero(~positive)[:6]])
    draw = BatchIndices(places, np.zeros(8, int), np.int32(0), np.float32(0), np.float32(0.25))
    state = new_state(CONFIG, optax.sgd(1.0), data.source[:1], seed=1, domains=("source",))
    _, losses = jax.jit(training_step(CONFIG, optax.sgd(1.0)))(state, data, draw, KEY)
    variables = {"params": state.params, "batch_stats": state.batch_stats["source"]}
    (logits, _), _ = DomainAdversarialNetwork(CONFIG).apply(
        variables, data.source[places], train=True, mutable=["batch_stats"]
    )
    logits = np.asarray(logits, np.float64)
    each = np.concatenate([np.logaddexp(0, -logits[:2]), np.logaddexp(0, logits[2:])])
    assert float(losses.label) == pytest.approx((each[:2].mean() + each[2:].mean()) / 2, rel=1e-5)
    assert abs(each[:2].mean() - each[2:].mean()) > 0.01, "or equal weights would do as well"


def test_reversal_ramp_is_ganins() -> None:
    progress = np.linspace(0, 1, 11)
    np.testing.assert_allclose(reversal_strength(progress, 0.5), 0.5 * np.tanh(5 * progress), atol=1e-12)


def test_cross_entropy_against_optax() -> None:
    logits = np.random.default_rng(1).normal(scale=5, size=50)
    truth = np.arange(50) % 2
    expected = optax.sigmoid_binary_cross_entropy(jnp.asarray(logits), jnp.asarray(truth)).mean()
    assert cross_entropy(logits, truth) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_steps_scanned_in_one_call_are_those_of_many_calls() -> None:
    devices = jax.local_devices()[:1]
    data, optimizer = domains(), optax.adam(1e-2)
    draw = split_over_devices(drawn(data), 1)
    ends = []
    for steps_per_call in (1, 2, 3):
        state = replicate(new_state(CONFIG, optimizer, data.source[:1], seed=1), devices)
        run = mapped_steps(CONFIG, optimizer, devices, steps_per_call)
        done: list[int] = []
        state, losses = run(state, replicate(data, devices), draw, KEY, done.append)
        assert sum(done) == draw.strength.shape[1] == len(losses.label)
        ends.append((first_replica(state), losses))
    for other in ends[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3), ends[0], other)
