"""Which reduction a trained model reads: what is recorded of it with the model, and how it is found again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sfxjax.errors import UserError
from sfxjax.reductions.registry import BUILT_IN, Package, canonical_name, get_reduction, is_known, package_of
from sfxjax.reductions.user_code import ReductionSource, load_reduction, loaded_as, reduction_source

NAME, SOURCE = "reduction", "reduction_source"


def record(name: str | None) -> dict[str, Any]:
    """Return the entries of a model's description that tell its reduction.

    Args:
        name: of a loaded reduction, or None for whole frames.

    Returns:
        Its name; for a user's code beside it the function and the file's SHA-256, for a package's its name and version.
    """
    source = reduction_source(name) or package_of(name)
    named = {NAME: None if name is None else canonical_name(name)}
    return named if source is None else named | {SOURCE: asdict(source)}


def read_record(description: dict[str, Any]) -> tuple[str | None, ReductionSource | Package | None]:
    """Return a reduction's name and where it comes from, as `record` put them into a model's description.

    Raises:
        KeyError, TypeError, ValueError: the description is damaged.
    """
    name, source = description[NAME], description.get(SOURCE)
    if name is None:
        return None, None
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"its reduction is {name!r}")
    if source is None:
        return canonical_name(name), None
    texts = list(source.values()) if isinstance(source, dict) else []
    if not texts or not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise ValueError(f"the source of its reduction is {source!r}")
    return name, Package(**source) if "package" in source else ReductionSource(**source)


def find_reduction(
    name: str | None, source: ReductionSource | Package | None, given: str | None = None
) -> str | None:
    """Find the reduction that a model reads, and import it where that is allowed.

    A user's code is run only where the user names it: here, or to `load_reduction` before.

    Args:
        name: as `read_record` gives it.
        source: likewise.
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
    if isinstance(source, ReductionSource):
        return _find_user_code(name, source, given)
    if source is None and name not in BUILT_IN:
        raise UserError(
            f"this model reads vectors made by {name}, a reduction that this version of sfxjax does not have; train it again"
        )
    if given is not None and canonical_name(given) != name:
        raise UserError(f"this model reads vectors made by {name}, not by {given}; give no reduction")
    return name if source is None else _find_in_package(name, source)


def _find_in_package(name: str, recorded: Package) -> str:
    made_by = f"this model reads vectors made by {name} of the package {recorded.package}"
    exactly = f"pip install {recorded.package}=={recorded.version}"
    if not is_known(name):
        raise UserError(f"{made_by}, which is not installed; install it: {exactly}")
    get_reduction(name)
    found = package_of(name)
    if found != recorded:
        which = "the built-in one" if found is None else f"that of {found.package} {found.version}"
        raise UserError(
            f"{made_by} {recorded.version}, and here {name} is {which}; {exactly}, or train the model again"
        )
    return name


def _find_user_code(name: str, recorded: ReductionSource, given: str | None) -> str:
    if given is None:
        loaded = loaded_as(recorded)
        if loaded is None:
            raise UserError(
                f"this model reads vectors made by {name}; give --reduction {name} to run that code"
            )
        return loaded
    loaded = load_reduction(given)
    found = reduction_source(loaded)
    if found is None or found.function != recorded.function:
        raise UserError(f"this model reads vectors made by {name}, not by {given}; give that one")
    if found.sha256 != recorded.sha256:
        raise UserError(
            f"{given} is not the code this model was trained with, {name} (SHA-256 {found.sha256[:12]}..., then"
            f" {recorded.sha256[:12]}...); give the file as it was, or train again"
        )
    return loaded
