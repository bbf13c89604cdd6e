"""Which reduction a trained model reads: what is recorded of it with the model, and how it is found again."""

from __future__ import annotations

from typing import Any

from sfxjax.errors import UserError
from sfxjax.reductions.registry import BUILT_IN, ORIGINS, canonical_name, get_reduction, is_known, origin_of
from sfxjax.reductions.user_code import load_reduction

NAME_KEY, SOURCE_KEY = "reduction", "reduction_source"
Provenance = dict[str, str]


def record(name: str | None) -> dict[str, Any]:
    """Return the entries of a model's description that tell its reduction: the name and, unless it is built in, the origin.

    Args:
        name: of a loaded reduction, or None for whole frames.
    """
    origin = origin_of(name)
    return {NAME_KEY: canonical_name(name) if name else None} | ({SOURCE_KEY: origin} if origin else {})


def read_record(description: dict[str, Any]) -> tuple[str | None, Provenance | None]:
    """Return a reduction's name and origin, as `record` put them into a model's description.

    Raises:
        KeyError, ValueError: the description is damaged.
    """
    name, origin = description[NAME_KEY], description.get(SOURCE_KEY)
    if name is None:
        return None, None
    kinds = {"function", "sha256"}, {"package", "version"}
    if origin is not None and not (isinstance(origin, dict) and set(origin) in kinds):
        raise ValueError(f"the origin of its reduction is {origin!r}")
    for text in (name, *(origin or {}).values()):
        if not (isinstance(text, str) and text.isprintable()):
            raise ValueError(f"of its reduction it says {text!r}")
    return name, origin


def find_reduction(name: str | None, origin: Provenance | None, given: str | None = None) -> str | None:
    """Find the reduction that a model reads, and import it where that is allowed.

    A user's code is run only where the user names it: here, or to `load_reduction` before.

    Args:
        name: as `read_record` gives it.
        origin: likewise.
        given: what the user says it is, as for `load_reduction`, or None.

    Returns:
        Its name for `get_reduction`; None for whole frames.

    Raises:
        UserError: it has to be given, is another one, has changed since the model was trained, or is missing.
    """
    if name is None:
        if given is not None:
            raise UserError(f"this model reads whole frames, not vectors made by {given}; give no reduction")
        return None
    made_by = f"this model reads vectors made by {name}"
    if origin and "sha256" in origin:
        return _find_user_code(made_by, name, origin, given)
    if not origin and canonical_name(name) not in BUILT_IN:
        raise UserError(f"{made_by}, a reduction that this version of sfxjax does not have; train it again")
    if given is not None and canonical_name(given) != canonical_name(name):
        raise UserError(f"{made_by}, not by {given}; give no reduction")
    if origin:
        _check_package(made_by, name, origin)
    return canonical_name(name)


def _check_package(made_by: str, name: str, recorded: Provenance) -> None:
    made_by, version = f"{made_by} of the package {recorded['package']}", recorded["version"]
    exactly = f"pip install {recorded['package']}=={version}"
    if not is_known(name):
        raise UserError(f"{made_by}, which is not installed; install it: {exactly}")
    get_reduction(name)
    found = origin_of(name)
    if found != recorded:
        which = f"that of {found['package']} {found['version']}" if found else "built in"
        raise UserError(
            f"{made_by} {version}, and here {name} is {which}; {exactly}, or train the model again"
        )


def _find_user_code(made_by: str, name: str, recorded: Provenance, given: str | None) -> str:
    if given is None:
        for loaded, origin in ORIGINS.items():
            if origin == recorded:
                return loaded
        raise UserError(f"{made_by}; give --reduction {name} to run that code")
    found = origin_of(load_reduction(given)) or {}
    if found.get("function") != recorded["function"]:
        raise UserError(f"{made_by}, not by {given}; give that one")
    if found["sha256"] != recorded["sha256"]:
        raise UserError(
            f"{given} is not the code this model was trained with, {name} (SHA-256 {found['sha256'][:12]}..., then"
            f" {recorded['sha256'][:12]}...); give the file as it was, or train again"
        )
    return given
