"""What other packages bring: formats, streams and lists of labels by entry points, and libraries that not every install has."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from sfxjax.errors import UserError


def offered(group: str, what: str, *, made: bool = True) -> dict[str, Any]:
    """Load what installed packages offer.

    Args:
        group: of entry points.
        what: they offer, in the words of a message.
        made: call what is loaded, without arguments.

    Returns:
        The objects by the names of their entry points, in the order of the names.

    Raises:
        UserError: one cannot be imported or made.
    """
    found = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            loaded = entry.load()
            found[entry.name] = loaded() if made else loaded
        except Exception as error:
            raise UserError(
                f"the {what} {entry.name} of the package {entry.value} cannot be used ({error}); mend or remove it"
            ) from error
    return found


def optional(name: str, needed: str, extra: str) -> Any:
    """Import a module of a library that not every install has.

    Args:
        name: of the module.
        needed: what needs which library, in the words of a message.
        extra: of this package, that installs it.

    Raises:
        UserError: it is not installed; the line names the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{needed}: pip install 'sfxjax[{extra}]'") from error
