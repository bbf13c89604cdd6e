"""The compiled program that scores a batch of crops, on one device or split over many."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sfxjax.compilation import compiler_options
from sfxjax.crop import CROP
from sfxjax.mapping import map_leading
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.inputs import finish_inputs, network_inputs
from sfxjax.models.stem import BaseConfig
from sfxjax.preprocess.validity import settle


def frame_mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    """Return the devices as a mesh along the frames of a batch."""
    return Mesh(np.array(devices), ("frames",))


def weight_shapes(variables: Any) -> tuple[Any, ...]:
    """Return what a program must know of its weights, as a key: their tree, shapes and types."""
    leaves, tree = jax.tree.flatten(variables)
    return (tree, *(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))


@cache
def compiled_program(
    config: BaseConfig,
    reduction: str | None,
    weights: tuple[Any, ...],
    batch_size: int,
    dtype: np.dtype,
    own_masks: bool,
    devices: tuple[jax.Device, ...],
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Compile the program that scores batches split over devices, the same one for all models of one shape."""
    split, whole = PartitionSpec("frames"), PartitionSpec()
    mesh = frame_mesh(devices)
    masks = split if own_masks else whole
    specs = (whole, split, masks, split, split)
    program = jax.jit(
        jax.shard_map(
            partial(_score, config, reduction), mesh=mesh, in_specs=specs, out_specs=split, check_vma=False
        )
    )

    def shape(dimensions: tuple[int, ...], dtype: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dimensions, dtype, sharding=NamedSharding(mesh, spec))

    tree, *leaves = weights
    frames = (batch_size, CROP, CROP)
    return program.lower(
        jax.tree.unflatten(tree, [shape(leaf.shape, leaf.dtype, whole) for leaf in leaves]),
        shape(frames, dtype, split),
        shape(frames if own_masks else frames[1:], np.bool_, masks),
        shape((batch_size,), np.float32, split),
        shape((batch_size,), np.bool_, split),
    ).compile(compiler_options=compiler_options())


def _score(
    config: BaseConfig,
    reduction: str | None,
    variables: dict[str, Any],
    crops: jax.Array,
    good: jax.Array,
    limits: jax.Array,
    negatives_bad: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pre-process and score crops.

    Returns:
        (n,) scores; (n, 3) `sfxjax.preprocess.validity.Facts`; (n, 6) statistics.
    """

    def one(arguments: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        crop, limit, negatives_invalid = arguments[:3]
        mask = arguments[3] if len(arguments) > 3 else good
        pixels, facts = settle(crop, mask, limit, negatives_invalid)
        (inputs,), statistics = network_inputs(pixels, [reduction], config)
        return inputs, jnp.stack(facts), statistics

    arguments = (crops, limits, negatives_bad) + ((good,) if good.ndim == 3 else ())
    inputs, facts, statistics = map_leading(one, arguments)
    logits = TrainedModel(config, variables).map_logits(finish_inputs(inputs, config))
    return jax.nn.sigmoid(logits), facts, statistics
