"""Reductions written by a user, given as `file.py:function` or `module:function`.

    load_reduction("mine.py:my_reduction")

imports the function, checks it, and enters it in `sfxjax.reductions.registry.REDUCTIONS` under the very text it was given by,
so that every program can use it as one of the library's. A user's code runs only when it is named so: a trained model
records the name and checksum of the code that made its vectors, but loading the model does not run it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path

from sfxjax.errors import UserError
from sfxjax.reductions.check import one_line
from sfxjax.reductions.registry import ORIGINS, canonical_name, get_reduction, register

_modules: dict[tuple[Path, str], types.ModuleType] = {}


def load_reduction(spec: str) -> str:
    """Import a user's reduction, check it as `sfxjax.reductions.check` does, and enter it in `REDUCTIONS`.

    Args:
        spec: `file.py:function`, `module:function`, or the name of a built-in reduction or of an installed package's.

    Returns:
        The name under which it is entered: `spec`, or a built-in reduction's full name.

    Raises:
        UserError: there is no such file, module or function; importing it fails; it is no reduction; or this process has
            loaded another version of it. The message says what is wrong and what to do.
    """
    place, separator, name = spec.rpartition(":")
    if not (separator and place and name):
        get_reduction(spec)
        return canonical_name(spec)
    digest, module = _import(place, spec)
    origin = {"function": name, "sha256": digest}
    if ORIGINS.get(spec) == origin:
        return spec
    if spec in ORIGINS:
        raise UserError(f"{spec}: the file has changed since this process loaded it; start a new process")
    function = getattr(module, name, None)
    if function is None:
        raise UserError(f"{spec}: there is no {name} in {place}; {_suggest(module)}")
    register(spec, function, origin)
    return spec


def _import(place: str, spec: str) -> tuple[str, types.ModuleType]:
    """Import a file or a module; returns the SHA-256 of its source and it."""
    if not (place.endswith(".py") or "/" in place or "\\" in place):
        module = _import_module(place, spec)
        try:
            return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest(), module
        except (AttributeError, OSError):
            raise UserError(
                f"{spec}: the module {place} has no source file; put the function in a file"
            ) from None
    path = Path(place).expanduser()
    try:
        source = path.read_bytes()
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise UserError(f"{spec}: {reason}: {place}; give FILE.py:FUNCTION") from None
    digest = hashlib.sha256(source).hexdigest()
    key = path.resolve(), digest
    if key not in _modules:
        _modules[key] = _run_module(*key, source, spec)
    return digest, _modules[key]


def _run_module(path: Path, digest: str, source: bytes, spec: str) -> types.ModuleType:
    """Run a file's source as a module of a name that no other has; what is run is what the digest was taken of."""
    name = "sfxjax_reduction_" + hashlib.sha256(f"{path}\n{digest}".encode()).hexdigest()[:16]
    loader = importlib.util.spec_from_file_location(name, path)
    module = types.ModuleType(name) if loader is None else importlib.util.module_from_spec(loader)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{spec}: {path.name} cannot be imported ({one_line(error, path)})") from error
    return module


def _import_module(name: str, spec: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and (name + ".").startswith(error.name + ".")
        ):
            raise UserError(
                f"{spec}: there is no module {name}; for a file give FILE.py:FUNCTION, for a module one that Python can"
                " import from here"
            ) from None
        raise UserError(f"{spec}: the module {name} cannot be imported ({one_line(error)})") from error


def _suggest(module: types.ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    return f"it has {', '.join(sorted(names)[:8])}" if names else "it has no function"
