"""Trained models on disk: a folder with `model.json`, readable by eye, and the weights as an Orbax checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.errors import UserError
from sfxjax.files import atomic_folder
from sfxjax.models import BaseConfig, HitClassifier, stem
from sfxjax.preprocess import FRAME
from sfxjax.reductions import get_reduction

FORMAT = 1
MODEL_FOLDER = "model"
DESCRIPTION = "model.json"
WEIGHTS = "weights"


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
        """Return (n,) logits for (n, 720, 720) pre-processed frames, or for (n, ...) reduced ones."""
        return HitClassifier(self.config).apply(self.variables, stem(inputs, self.config))  # type: ignore[return-value]

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
    one = frame if reduction is None else get_reduction(reduction)(frame)
    return stem(one[None], config)


def save_model(folder: str | Path, model: TrainedModel) -> Path:
    """Write a model, replacing an older one of the same name only once the new one is whole.

    Args:
        folder: the model's own folder, usually `runs/NAME/model`.
        model: what to write.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something else.
        OSError: from the operating system, as on a full disk.
    """
    import orbax.checkpoint as ocp

    folder = Path(folder)
    description = {
        "format": FORMAT,
        "config": model.config.to_json(),
        "threshold": model.threshold,
        "reduction": model.reduction,
        "trained_on": model.trained_on,
    }
    with atomic_folder(folder) as temporary:
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=2, allow_nan=False) + "\n")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((temporary / WEIGHTS).resolve(), jax.tree.map(np.asarray, model.variables))
            checkpointer.wait_until_finished()
    return folder


def load_model(path: str | Path) -> TrainedModel:
    """Read a model written by `save_model`.

    Args:
        path: the model's folder, or the folder of the run that holds it.

    Raises:
        UserError: no model there, one of another format, or a damaged one.
    """
    import orbax.checkpoint as ocp

    path = Path(path)
    folder = path / MODEL_FOLDER if (path / MODEL_FOLDER).is_dir() else path
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except FileNotFoundError:
        raise UserError(
            f"no trained model in {path}; train one with: python -m train.dann --source LN83 --target LO19"
        ) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTION} cannot be read ({error}); train the model again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{folder} is not a model of this version of sfxjax; train it again")
    try:
        config = BaseConfig(**description["config"])
        reduction = description["reduction"]
        maps = example_maps(config, reduction)
        shapes = jax.eval_shape(lambda: HitClassifier(config).init(jax.random.key(0), maps))
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
        with ocp.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore((folder / WEIGHTS).resolve(), like)
        return TrainedModel(
            config, variables, float(description["threshold"]), reduction, dict(description["trained_on"])
        )
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged checkpoint.
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UserError(f"the model in {folder} is damaged ({reason[0]}); train it again") from error
