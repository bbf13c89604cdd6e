"""Trained models on disk: a folder with `model.json`, readable by eye, and the weights as an Orbax checkpoint."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.errors import UserError
from sfxjax.files import atomic_folder
from sfxjax.models import ORIENTATIONS, BaseConfig, HitClassifier, orient, stem
from sfxjax.preprocess import FRAME
from sfxjax.reductions import get_reduction

FORMAT = 1
MODEL_FOLDER = "model"
DESCRIPTION = "model.json"
WEIGHTS = "weights"
CHECKSUMS = "sha256"


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights and what a user of it must know.

    Attributes:
        config: shape of the network's base.
        variables: Flax variables, `params` and `batch_stats`, of `HitClassifier`.
        threshold: score from which a frame counts as a hit.
        reduction: name of the reduction the network reads, or None where it reads whole frames.
        trained_on: JSON-ready description of the data: sets, frames, simulated or not, seed, recipe.
    """

    config: BaseConfig
    variables: dict[str, Any]
    threshold: float = 0.5
    reduction: str | None = None
    trained_on: dict[str, Any] = field(default_factory=dict)

    def logits(self, inputs: jax.Array) -> jax.Array:
        """Return (n,) logits for (n, 720, 720) pre-processed frames, or for (n, ...) reduced ones.

        A frame's logit is the mean over its eight orientations, so that it does not depend on how the frame lies.
        """
        return self.map_logits(stem(inputs, self.config))

    def map_logits(self, maps: jax.Array) -> jax.Array:
        """Return (n,) logits for (n, ...) maps that `sfxjax.models.stem` has made of frames or vectors."""

        def logits(maps: jax.Array) -> jax.Array:
            return HitClassifier(self.config).apply(self.variables, maps)  # type: ignore[return-value]

        if not self.config.turns:
            return logits(maps)
        return jax.lax.map(lambda number: logits(orient(maps, number)), jnp.arange(ORIENTATIONS)).mean(axis=0)

    def scores(self, inputs: jax.Array) -> jax.Array:
        """Return (n,) probabilities of the positive class (Hit or Maybe)."""
        return jax.nn.sigmoid(self.logits(inputs))


def example_maps(config: BaseConfig, reduction: str | None = None) -> jax.Array:
    """Return maps of the right shape, of one frame or one vector, for initialising a network.

    Args:
        config: the network's base.
        reduction: name of the reduction, for networks on vectors.
    """
    frame = jnp.zeros((FRAME, FRAME))
    one = frame if reduction is None else get_reduction(reduction)(frame, None)
    return stem(one[None], config)


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
            _make_sure_of_room(temporary / "room", sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
            with _checkpointer() as checkpointer:
                checkpointer.save((temporary / WEIGHTS).resolve(), arrays)
                checkpointer.wait_until_finished()
        except Exception as error:
            # TensorStore reports the system's errors in its own words.
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full or "No space left" in str(error) or "ENOSPC" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from error
            raise
        whole = description | {CHECKSUMS: _checksums(temporary / WEIGHTS)}
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


def _make_sure_of_room(path: Path, size: int) -> None:
    """Fill the space that arrays of `size` bytes may take on disk, and free it again.

    TensorStore writes in threads of its own, and on a full disk each of them prints a traceback.
    """
    try:
        with path.open("wb") as file:
            # Every array has a file or two of its own, and is written twice; noise, since some file systems compress.
            file.write(os.urandom(4 * size + 2**20))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


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
        description = json.loads((folder / DESCRIPTION).read_text())
        # Looked at first: threads of TensorStore print tracebacks about damaged files, and Orbax takes other shapes.
        files = _checksums(folder / WEIGHTS)
        if description.pop(CHECKSUMS, files) != files:
            raise ValueError("its files are not as they were written")
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore((folder / WEIGHTS).resolve(), like)
        shapes = [[leaf.shape for leaf in jax.tree.leaves(each)] for each in (tree, like)]
        if shapes[0] != shapes[1]:
            raise ValueError("its arrays have other shapes")
        return tree, description
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged checkpoint.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the checkpoint in {folder} is damaged ({reason}); delete it and train again"
        ) from error


def save_model(folder: str | Path, model: TrainedModel) -> Path:
    """Write a model as `write_checkpoint` does.

    Args:
        folder: the model's own folder, usually `runs/NAME/model`.
        model: what to write.

    Returns:
        The folder.
    """
    description = {
        "format": FORMAT,
        "config": model.config.to_json(),
        "threshold": model.threshold,
        "reduction": model.reduction,
        "trained_on": model.trained_on,
    }
    return write_checkpoint(folder, model.variables, description)


def load_model(path: str | Path) -> TrainedModel:
    """Read a model written by `save_model`.

    Args:
        path: the model's folder, or the folder of the run that holds it.

    Raises:
        UserError: no model there, one of another format, or a damaged one.
    """
    path = Path(path)
    folder = path / MODEL_FOLDER if (path / MODEL_FOLDER).is_dir() else path
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except FileNotFoundError:
        raise UserError(
            f"no trained model in {path}; train one with: python -m train.dann --source LN83 --target LO19"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTION} cannot be read ({error}); train the model again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{folder} is not a model of this version of sfxjax; train it again")
    try:
        config = BaseConfig(**description["config"])
        reduction = description["reduction"]
        threshold, trained_on = float(description["threshold"]), dict(description["trained_on"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTION} is damaged ({error}); train the model again") from error
    maps = example_maps(config, reduction)
    like = jax.eval_shape(lambda: HitClassifier(config).init(jax.random.key(0), maps))
    variables, _ = read_checkpoint(folder, dict(like))
    return TrainedModel(config, variables, threshold, reduction, trained_on)
