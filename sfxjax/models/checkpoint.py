"""Trained models on disk: a folder with `model.json`, readable by eye, and the weights as an Orbax checkpoint."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sfxjax
from sfxjax.command_line import call_of
from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.files import atomic_folder
from sfxjax.json_files import read_json
from sfxjax.models.description import CHECKSUMS, DESCRIPTION, MODEL_FORMAT, check_weights, read_description
from sfxjax.models.networks import ORIENTATIONS, HitClassifier, parameter_count, rotate_flip
from sfxjax.models.stem import BaseConfig, stem
from sfxjax.reductions.provenance import find_reduction, record
from sfxjax.reductions.registry import reduced_shape

MODEL_FOLDER = "model"
WEIGHTS_FOLDER = "weights"
# By the name of what describes an array: how TensorStore reads it.
_DRIVERS = {".zarray": "zarr", "zarr.json": "zarr3"}
ROOM = 4  # times the arrays' bytes: each has a file or two of its own, and is written twice
# Orbax numbers its saves for the whole process, and of two at once each may wait for the other's signals for ever.
_SAVING = threading.Lock()


@dataclass(frozen=True, repr=False)
class TrainedModel:
    """A network with its weights and what a user of it must know.

    Attributes:
        config: shape of the network's base.
        variables: Flax variables, `params` and `batch_stats`, of `HitClassifier`.
        threshold: score from which a frame is called a hit.
        reduction: name of the reduction the network reads, as `sfxjax.reductions.registry.get_reduction` knows it, or None where
            it reads whole frames.
        trained_on: JSON-ready description of the data: sets, frames, simulated or not, seed, recipe.
    """

    config: BaseConfig
    variables: dict[str, Any]
    threshold: float = 0.5
    reduction: str | None = None
    trained_on: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        network = f"{self.config.dimensions}D CNN" + (f" on {self.reduction}" if self.reduction else "")
        weights = parameter_count(self.variables.get("params", {}))
        sets = " -> ".join(
            str(self.trained_on[key]) for key in ("source", "target") if self.trained_on.get(key)
        )
        return f"TrainedModel({network}, {weights:,} weights, trained on {sets or 'unnamed data'})"

    def logits(self, inputs: jax.Array) -> jax.Array:
        """Compute the logit of every frame, the mean over its eight orientations: rotated frames score alike.

        Args:
            inputs: (n, 720, 720) pre-processed frames, or what the model's reduction makes of them, (n, length) or
                (n, length, channels).

        Returns:
            (n,) float32 logits of the positive class (Hit or Maybe).

        Raises:
            flax.errors.ScopeParamShapeError: the inputs have another number of channels than the model was trained on.
        """
        return self.map_logits(stem(inputs, self.config))

    def map_logits(self, maps: jax.Array) -> jax.Array:
        """Compute logits as `logits` does, of (n, ..., channels) maps that `sfxjax.models.stem.stem` has made."""

        def logits(maps: jax.Array) -> jax.Array:
            return HitClassifier(self.config).apply(self.variables, maps)  # type: ignore[return-value]

        if not self.config.equivariant:
            return logits(maps)
        numbers = jnp.arange(ORIENTATIONS)
        return jax.lax.map(lambda number: logits(rotate_flip(maps, number)), numbers).mean(axis=0)

    def scores(self, inputs: jax.Array) -> jax.Array:
        """Return (n,) probabilities of the positive class (Hit or Maybe), of inputs as for `logits`."""
        return jax.nn.sigmoid(self.logits(inputs))


def example_maps(config: BaseConfig, reduction: str | None = None) -> jax.Array:
    """Return maps of the right shape, of one frame or one vector, for initialising a network.

    Args:
        config: the network's base.
        reduction: name of the reduction, for networks on vectors.

    Returns:
        (1, ..., channels) float32.
    """
    shape = (FRAME, FRAME) if reduction is None else reduced_shape(reduction)
    return stem(jnp.zeros((1, *shape)), config)


def save_model(folder: str | Path, model: TrainedModel) -> Path:
    """Write a model as `write_checkpoint` does.

    Args:
        folder: the model's own folder, usually `runs/NAME/model`.
        model: what to write.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something else.
        OSError: from the operating system, such as a full disk.
    """
    description = {
        "format": MODEL_FORMAT,
        "sfxjax": sfxjax.__version__,
        "config": model.config.to_json(),
        "threshold": model.threshold,
        **record(model.reduction),
        "trained_on": model.trained_on,
    }
    return write_checkpoint(folder, model.variables, description)


def load_model(path: str | Path, *, reduction: str | None = None) -> TrainedModel:
    """Read a model written by `save_model`.

    A model that reads vectors made by a user's own code names that code and its checksum, but reading the model does not run
    it: it must be given here, or have been given to `sfxjax.reductions.user_code.load_reduction` before.

    Args:
        path: the model's folder, or the folder of the run that holds it.
        reduction: the reduction the model reads, `file.py:function` or `module:function`, which is imported; the name will
            do for a built-in one or an installed package's. None where the model is to say.

    Returns:
        The model, with the threshold that its training chose.

    Raises:
        UserError: no model there, one of another version, or a damaged one; its reduction has to be given, is another one,
            is not installed, or has changed since the model was trained.
    """
    path = Path(path)
    folder = path / MODEL_FOLDER if (path / MODEL_FOLDER).is_dir() else path
    try:
        described = read_description(folder)
    except FileNotFoundError:
        raise UserError(
            f"no trained model in {path}; train one with: {call_of('train dann')} --source LN83 --target LO19"
        ) from None
    config, name = described.config, find_reduction(*described.reduction, reduction)
    if config.dimensions != (2 if name is None else 1):
        reads = "whole frames" if name is None else f"vectors of {name}"
        raise UserError(
            f"{folder / DESCRIPTION} is damaged (a {config.dimensions}D network on {reads}); train again"
        )
    maps = example_maps(config, name)
    like = jax.eval_shape(lambda: HitClassifier(config).init(jax.random.key(0), maps))
    check_weights([leaf.shape for leaf in jax.tree.leaves(like)], folder)
    variables, _ = read_checkpoint(folder, dict(like))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"the weights in {folder} are damaged (not all are numbers); train the model again")
    return TrainedModel(config, variables, described.threshold, name, described.trained_on)


def write_checkpoint(folder: str | Path, tree: Any, description: dict[str, Any]) -> Path:
    """Write arrays and what is to be known of them, replacing an older checkpoint only once the new one is whole.

    Args:
        folder: the checkpoint's own folder.
        tree: a pytree of arrays.
        description: JSON-ready, finite numbers only.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something else.
        OSError: from the operating system, such as a full disk.
    """
    folder = Path(folder)
    arrays = jax.tree.map(np.asarray, tree)
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.part"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed here
    with atomic_folder(folder) as temporary:
        # What JSON cannot hold is refused before anything is written.
        json.dumps(description, allow_nan=False)
        try:
            # TensorStore writes in threads of its own, each of which prints a traceback on a full disk.
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
            if shutil.disk_usage(temporary).free < ROOM * size + 2**20:
                raise OSError(errno.ENOSPC, "No space left on device")
            with _SAVING, _checkpointer() as checkpointer:
                checkpointer.save((temporary / WEIGHTS_FOLDER).resolve(), arrays)
                checkpointer.wait_until_finished()
        except Exception as error:
            # TensorStore reports the system's errors in its own words.
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or "No space left" in str(error) or "ENOSPC" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from error
            raise
        whole = description | {CHECKSUMS: _checksums(temporary / WEIGHTS_FOLDER)}
        (temporary / DESCRIPTION).write_text(json.dumps(whole, indent=2) + "\n")
    return folder


def _checkpointer() -> Any:
    """Return Orbax's writer and reader for this process alone: of several, one writes, and all may read when they like."""
    import orbax.checkpoint as ocp

    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def read_checkpoint(folder: str | Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint written by `write_checkpoint`.

    Args:
        folder: the checkpoint's own folder.
        like: a pytree of arrays of the shapes and dtypes expected.

    Returns:
        The tree, with arrays of the host, and the description.

    Raises:
        UserError: it is missing, damaged or of other shapes.
    """
    folder = Path(folder)
    try:
        description = read_json(folder / DESCRIPTION)
        # Looked at first: threads of TensorStore print tracebacks about damaged files, and Orbax takes other shapes.
        files = _checksums(folder / WEIGHTS_FOLDER)
        if description.pop(CHECKSUMS, None) != files:
            raise ValueError("its files are not as they were written")
        _check_arrays(folder / WEIGHTS_FOLDER, max((leaf.size for leaf in jax.tree.leaves(like)), default=1))
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore((folder / WEIGHTS_FOLDER).resolve(), like)
        shapes = [[leaf.shape for leaf in jax.tree.leaves(each)] for each in (tree, like)]
        if shapes[0] != shapes[1]:
            raise ValueError("its arrays have other shapes")
        return tree, description
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged checkpoint.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the checkpoint in {folder} is damaged ({reason}); delete it and train again"
        ) from error


def _check_arrays(folder: Path, largest: int) -> None:
    """Read every array once, one after the other: whoever changes a file can change its checksum, too.

    Of several at a time the first that is damaged leaves the others' threads printing tracebacks.

    Args:
        folder: of the arrays.
        largest: numbers in the largest one.

    Raises:
        ValueError: one is larger, or damaged.
    """
    import tensorstore

    store = {"driver": "ocdbt", "base": f"file://{folder.resolve()}/"}
    for name in tensorstore.KvStore.open(store).result().list().result():
        place, slash, kind = name.decode("utf-8", "replace").rpartition("/")
        if kind in _DRIVERS:
            array = tensorstore.open(
                {"driver": _DRIVERS[kind], "kvstore": store | {"path": place + slash}}
            ).result()
            if array.size > largest:
                raise ValueError(f"an array of {array.size} numbers")
            array.read().result()


def model_digest(model: TrainedModel) -> str:
    """Return a checksum of what decides a model's scores."""
    digest = hashlib.sha256(json.dumps([model.config.to_json(), model.reduction]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.variables):
        digest.update(str(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
