"""A trained model's `model.json`, checked as a whole when it is read: a folder from elsewhere may say anything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import sfxjax
from sfxjax.errors import UserError
from sfxjax.evaluation.domain_check import NAMES
from sfxjax.json_files import checked_number, read_json, shown_value
from sfxjax.models.stem import BaseConfig
from sfxjax.reductions.provenance import Provenance, read_record

MODEL_FORMAT = 2  # of model.json: raise it whenever its fields change their names or meaning
DESCRIPTION = "model.json"
CHECKSUMS = "sha256"
# Of weights, numbers: the largest network here has 0.13 million.
MOST_WEIGHTS = 2**26


class ModelDescription(NamedTuple):
    """What `model.json` says.

    Attributes:
        config: shape of the network's base.
        reduction: name and origin of the reduction that it reads, as `sfxjax.reductions.provenance.read_record` gives them.
        threshold: score from which a frame is a hit.
        trained_on: description of the data.
    """

    config: BaseConfig
    reduction: tuple[str | None, Provenance | None]
    threshold: float
    trained_on: dict[str, Any]


def read_description(folder: Path) -> ModelDescription:
    """Read and check the description of a model.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, of another version, or says what makes no sense.
    """
    path = folder / DESCRIPTION
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); train the model again") from error
    _check_version(content, folder)
    try:
        config = BaseConfig(**_of_type(dict, content["config"], "config"))
        reduction = read_record(content)
        threshold = checked_number(content["threshold"], "threshold", 0, 1)
        trained_on = _of_type(dict, content["trained_on"], "trained_on")
        _check_trained_on(trained_on)
        checksums = _of_type(dict, content[CHECKSUMS], CHECKSUMS)
        if not all(isinstance(text, str) for text in checksums.values()):
            raise ValueError(f"{CHECKSUMS} holds other values than checksums")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); train the model again") from error
    except UserError as error:
        raise UserError(f"{path}: {error}; train the model again") from error
    return ModelDescription(config, reduction, threshold, trained_on)


def check_weights(shapes: Any, folder: Path) -> None:
    """Refuse a network of absurdly many weights before any room is made for them.

    Args:
        shapes: of its arrays.
        folder: of the model.

    Raises:
        UserError: there are more than `MOST_WEIGHTS`.
    """
    count = sum(math.prod(map(float, shape)) for shape in shapes)
    if not count <= MOST_WEIGHTS:
        raise UserError(
            f"{folder / DESCRIPTION} is damaged (a network of {count:.3g} weights is beyond belief); train the model again"
        )


def _check_trained_on(trained_on: dict[str, Any]) -> None:
    """Check what screening reads of the training: frame statistics and validation frames; the rest is shown as text alone."""
    statistics = trained_on.get("frame_statistics")
    if statistics is not None:
        _of_type(dict, statistics, "frame_statistics")
        names = _of_type(list, statistics["names"], "names of the frame_statistics")
        if len(names) > 10 * len(NAMES) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of the frame_statistics are none")
        for key in ("low", "high"):
            if len(_of_type(list, statistics[key], key)) != len(names):
                raise ValueError(f"{key} of the frame_statistics has not one number a name")
            for value in statistics[key]:
                checked_number(value, f"{key} of the frame_statistics", -1e30, 1e30)
    validation = trained_on.get("validation")
    if validation is not None:
        _of_type(dict, validation, "validation")
        scores = _of_type(list, validation["scores"], "scores of the validation frames")
        positives = _of_type(list, validation["positives"], "positives of the validation frames")
        if len(scores) != len(positives):
            raise ValueError("its validation frames have not one label a score")
        for value in scores:
            checked_number(value, "a score of the validation frames", 0, 1)
        if not all(isinstance(value, bool | int) and value in (0, 1) for value in positives):
            raise ValueError("the labels of its validation frames are not 0 or 1")


def _check_version(content: Any, folder: Path) -> None:
    """Refuse a description of another format, naming the version that wrote it."""
    written = content.get("format") if isinstance(content, dict) else None
    if written == MODEL_FORMAT and not isinstance(written, bool | float):
        if not isinstance(content.get("sfxjax", ""), str):
            wrong = f"the version of sfxjax is {shown_value(content['sfxjax'])}"
            raise UserError(f"{folder / DESCRIPTION} is damaged ({wrong}); train the model again")
        return
    which = ", or none"
    if isinstance(written, int):
        version = ascii(content.get("sfxjax", "before 0.1.0")).strip("'")[:40]
        which = f", {version} (format {shown_value(written)}, and this is {sfxjax.__version__}, format {MODEL_FORMAT})"
    raise UserError(f"{folder} holds a model of another version of sfxjax{which}; train it again")


def _of_type(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown_value(value)}")
    return value
