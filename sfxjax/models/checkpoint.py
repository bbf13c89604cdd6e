"""Trained models on disk: a folder with `model.json`, readable by eye, and the weights as an Orbax checkpoint."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.files import atomic_folder
from sfxjax.models.networks import ORIENTATIONS, BaseConfig, HitClassifier, rotate_flip, stem
from sfxjax.reductions.registry import LIBRARY, canonical_name, reduced_shape
from sfxjax.reductions.user_code import ReductionSource, load_reduction, loaded_as, reduction_source

FORMAT = 1
MODEL_FOLDER = "model"
DESCRIPTION = "model.json"
WEIGHTS = "weights"
CHECKSUMS = "sha256"
REDUCTION_SOURCE = "reduction_source"
# Of the base of models that do not name these fields.
_WITHOUT_SPOTS = {"spot": 1, "noise_normalised": False}
# Orbax numbers its saves for the whole process, and of two at once each may wait for the other's signals for ever.
_SAVING = threading.Lock()


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights and what a user of it must know.

    Attributes:
        config: shape of the network's base.
        variables: Flax variables, `params` and `batch_stats`, of `HitClassifier`.
        threshold: score from which a frame counts as a hit.
        reduction: name of the reduction the network reads, as `sfxjax.reductions.registry.get_reduction` knows it, or None where
            it reads whole frames.
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
        """Return (n,) logits for (n, ...) maps that `sfxjax.models.networks.stem` has made of frames or vectors."""

        def logits(maps: jax.Array) -> jax.Array:
            return HitClassifier(self.config).apply(self.variables, maps)  # type: ignore[return-value]

        if not self.config.equivariant:
            return logits(maps)
        return jax.lax.map(lambda number: logits(rotate_flip(maps, number)), jnp.arange(ORIENTATIONS)).mean(
            axis=0
        )

    def scores(self, inputs: jax.Array) -> jax.Array:
        """Return (n,) probabilities of the positive class (Hit or Maybe)."""
        return jax.nn.sigmoid(self.logits(inputs))


def example_maps(config: BaseConfig, reduction: str | None = None) -> jax.Array:
    """Return maps of the right shape, of one frame or one vector, for initialising a network.

    Args:
        config: the network's base.
        reduction: name of the reduction, for networks on vectors.
    """
    shape = (FRAME, FRAME) if reduction is None else reduced_shape(reduction)
    return stem(jnp.zeros((1, *shape)), config)


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
            with _SAVING, _checkpointer() as checkpointer:
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
        "reduction": None if model.reduction is None else canonical_name(model.reduction),
        "trained_on": model.trained_on,
    }
    source = reduction_source(model.reduction)
    if source is not None:
        description[REDUCTION_SOURCE] = {"function": source.function, "sha256": source.sha256}
    return write_checkpoint(folder, model.variables, description)


def load_model(path: str | Path, reduction: str | None = None) -> TrainedModel:
    """Read a model written by `save_model`.

    A model that reads vectors made by a user's own code names that code and its checksum, but reading the model does not run
    it: it must be given here, or have been given to `sfxjax.reductions.user_code.load_reduction` before.

    Args:
        path: the model's folder, or the folder of the run that holds it.
        reduction: the reduction the model reads, `file.py:function` or `module:function`, which is imported; a library's
            name will do for a model that reads that. None where the model is to say.

    Raises:
        UserError: no model there, one of another format, or a damaged one; its reduction has to be given, is another one,
            or has changed since the model was trained.
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
        config = _read_config(description["config"])
        recorded = _recorded_reduction(description)
        threshold, trained_on = float(description["threshold"]), dict(description["trained_on"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTION} is damaged ({error}); train the model again") from error
    name = _find_reduction(*recorded, reduction)
    maps = example_maps(config, name)
    like = jax.eval_shape(lambda: HitClassifier(config).init(jax.random.key(0), maps))
    variables, _ = read_checkpoint(folder, dict(like))
    return TrainedModel(config, variables, threshold, name, trained_on)


def _read_config(recorded: dict[str, Any]) -> BaseConfig:
    fields = _WITHOUT_SPOTS | recorded
    # Vectors came as they are while their models named a size of spots.
    if fields.get("dimensions") == 1 and fields["spot"] != 1:
        fields["noise_normalised"] = False
    return BaseConfig(**fields)


def _recorded_reduction(description: dict[str, Any]) -> tuple[str | None, ReductionSource | None]:
    """Return a reduction's name and source as a model's description has them; ValueError where they are damaged."""
    name, source = description["reduction"], description.get(REDUCTION_SOURCE)
    if name is None:
        return None, None
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"its reduction is {name!r}")
    if source is None:
        return name, None
    function, digest = source["function"], source["sha256"]
    if not (isinstance(function, str) and isinstance(digest, str)):
        raise ValueError("its reduction has no checksum")
    return name, ReductionSource(function, digest)


def _find_reduction(recorded: str | None, source: ReductionSource | None, given: str | None) -> str | None:
    """Return the name of the reduction a model reads, imported if it was given.

    Args:
        recorded: its name when the model was trained; None for whole frames.
        source: where it came from, None for one of the library.
        given: what the user says it is, or None.
    """
    if recorded is None:
        if given is not None:
            raise UserError(f"this model reads whole frames, not vectors made by {given}; give no reduction")
        return None
    if source is None:
        name = canonical_name(recorded)
        if name not in LIBRARY:
            raise UserError(
                f"this model reads vectors made by {name}, a reduction that this version of sfxjax does not have; train"
                " it again"
            )
        if given is not None and canonical_name(given) != name:
            raise UserError(f"this model reads vectors made by {name}, not by {given}; give no reduction")
        return name
    if given is None:
        loaded = loaded_as(source)
        if loaded is None:
            raise UserError(
                f"this model reads vectors made by {recorded}; give --reduction {recorded} to run that code"
            )
        return loaded
    name = load_reduction(given)
    found = reduction_source(name)
    if found is None or found.function != source.function:
        raise UserError(f"this model reads vectors made by {recorded}, not by {given}; give that one")
    if found.sha256 != source.sha256:
        raise UserError(
            f"{given} is not the code this model was trained with, {recorded} (SHA-256 {found.sha256[:12]}..., then"
            f" {source.sha256[:12]}...); give the file as it was, or train again"
        )
    return name
