"""Reductions written by a user, given as `file.py:function`, as `module:function`, or by the name of an entry point.

    load_reduction("mine.py:my_reduction")

A package gives its reductions names by entry points of `sfxjax.reductions`: my_reduction = "my_package:my_reduction".

`load_reduction` imports the function, checks it, and enters it in `sfxjax.reductions.registry.REDUCTIONS` under the very text
it was given by, so that every program can use it as one of the library's. A user's code runs only when it is named so: a
trained model remembers which code made its vectors, by name and checksum, but loading the model does not run it.

The function takes a pre-processed frame, float32 (720, 720), and `valid`, bool of that shape, True where a pixel may take
part, or None: all may. It returns (length,) or (length, channels) real numbers. One that takes the frame alone sees 0, the
level of the background, in place of pixels that may not take part.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.reductions.registry import (
    LIBRARY,
    REDUCTIONS,
    Reduction,
    canonical_name,
    get_reduction,
    installed_reductions,
)

# A mask that hides nothing must not change the numbers by more than another order of adding them up may.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ReductionSource:
    """Where a user's reduction comes from.

    Attributes:
        function: its name.
        sha256: of the file it is in, hexadecimal.
    """

    function: str
    sha256: str


_loaded: dict[str, ReductionSource] = {}
_modules: dict[tuple[Path, str], types.ModuleType] = {}


def load_reduction(spec: str) -> str:
    """Import a user's reduction, check it and enter it in `REDUCTIONS`; the library's are there already.

    It is tried on made-up frames: that JAX can trace and vmap it, that its numbers are finite and depend on the frame, and
    depend neither on pixels that `valid` excludes nor on anything outside the frame.

    Args:
        spec: `file.py:function`, `module:function`, or the name of a reduction of the library or of an installed package.

    Returns:
        The name under which it is entered: `spec`, or the library's full name.

    Raises:
        UserError: there is no such file, module or function; importing it fails; it is no reduction; or this process has
            loaded another version of it. The message says what is wrong and what to do.
    """
    if canonical_name(spec) in LIBRARY:
        return canonical_name(spec)
    spec = installed_reductions().get(spec, spec)
    place, separator, name = spec.rpartition(":")
    if not (separator and place and name):
        get_reduction(spec)  # says which there are
    digest, module = _import(place, spec)
    source = ReductionSource(name, digest)
    if _loaded.get(spec) == source:
        return spec
    if spec in _loaded:
        raise UserError(f"{spec}: the file has changed since this process loaded it; start a new process")
    function = getattr(module, name, None)
    if function is None:
        raise UserError(f"{spec}: there is no {name} in {place}; {_suggest(module)}")
    reduction = _adapted(function, spec)
    check_reduction(reduction, spec)
    REDUCTIONS[spec], _loaded[spec] = reduction, source
    return spec


def reduction_source(name: str | None) -> ReductionSource | None:
    """Return where a loaded reduction comes from; None for the library's own, and for None."""
    return None if name is None else _loaded.get(name)


def loaded_as(source: ReductionSource) -> str | None:
    """Return the name under which this process has loaded the reduction of that source, or None."""
    return next((spec for spec, known in _loaded.items() if known == source), None)


def check_reduction(reduction: Reduction, spec: str) -> None:
    """Try a reduction on made-up frames.

    Args:
        reduction: takes a frame and its valid pixels or None.
        spec: what messages call it.

    Raises:
        UserError: it is not what a reduction must be; the message says why.
    """
    shape = _traced_shape(reduction, spec)
    rng = np.random.default_rng(0)
    frames = rng.normal(0, 0.1, (2, FRAME, FRAME)).astype(np.float32)
    for frame in frames:
        frame[tuple(rng.integers(20, FRAME - 20, (2, 40)))] = rng.uniform(1, 4.5, 40)
    valid = rng.random((FRAME, FRAME)) > 0.01
    valid[FRAME // 2 - 50 : FRAME // 2 + 30, FRAME // 2 - 30 : FRAME // 2 + 60] = False
    everywhere, nowhere = np.ones_like(valid), np.zeros_like(valid)
    bare, masked = _compiled(reduction, False), _compiled(reduction, True)

    plain = [np.asarray(bare(frame)) for frame in frames]
    left_out = np.asarray(masked(frames[0], valid))
    for what, numbers in (
        ("random frames", plain[0]),
        ("random frames", plain[1]),
        ("a frame of zeros", np.asarray(bare(np.zeros_like(frames[0])))),
        ("a frame with a mask", left_out),
        ("a frame of which no pixel is valid", np.asarray(masked(frames[0], nowhere))),
    ):
        if not np.isfinite(numbers).all():
            bad = "NaN" if np.isnan(numbers).any() else "infinity"
            raise UserError(f"{spec}: gives {bad} for {what}; a reduction's numbers must be finite")

    # JAX would reuse what it has traced of functions that are compiled within this one.
    jax.clear_caches()
    if not np.array_equal(np.asarray(_compiled(reduction, False)(frames[0])), plain[0]):
        raise UserError(
            f"{spec}: the same frame gives other numbers when it is traced anew; a reduction must not draw random"
            " numbers, read the clock or depend on variables that change"
        )
    if np.array_equal(plain[0], plain[1]):
        raise UserError(f"{spec}: gives the same {shape} numbers for different frames")
    changed = np.where(valid, frames[0], rng.uniform(-5, 5, valid.shape).astype(np.float32))
    if not np.array_equal(np.asarray(masked(changed, valid)), left_out):
        raise UserError(
            f"{spec}: pixels that `valid` excludes decide its numbers; replace them first, as by"
            " frame = jnp.where(valid, frame, 0)"
        )
    same = np.asarray(masked(frames[0], everywhere))
    if not np.allclose(same, plain[0], TOLERANCE, TOLERANCE * np.abs(plain[0]).max()):
        raise UserError(
            f"{spec}: gives other numbers for valid=None than for pixels that are all valid; the two must mean the same"
        )


def _compiled(reduction: Reduction, with_mask: bool) -> Callable[..., jax.Array]:
    """Return the reduction compiled on its own, traced anew."""
    if with_mask:
        return jax.jit(lambda frame, valid: reduction(frame, valid))
    return jax.jit(lambda frame: reduction(frame, None))


def _traced_shape(reduction: Reduction, spec: str) -> tuple[int, ...]:
    """Trace a reduction with and without a mask, for one frame and for several; returns its one shape."""
    frame = jax.ShapeDtypeStruct((FRAME, FRAME), jnp.float32)
    mask = jax.ShapeDtypeStruct((FRAME, FRAME), jnp.bool_)
    several = jax.ShapeDtypeStruct((2, FRAME, FRAME), jnp.float32)
    try:
        with jax.checking_leaks():
            bare = jax.eval_shape(lambda frame: reduction(frame, None), frame).shape
            masked = jax.eval_shape(lambda frame, valid: reduction(frame, valid), frame, mask).shape
        jax.eval_shape(jax.vmap(lambda frame: reduction(frame, None)), several)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{spec}: {_untraceable(error)}") from error
    if bare != masked:
        raise UserError(
            f"{spec}: returns {bare} without a mask and {masked} with one; the shapes must be equal"
        )
    return bare


def _untraceable(error: Exception) -> str:
    """Say in one line why a function cannot be traced."""
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "JAX cannot trace it, it hands the frame to NumPy; use jax.numpy and jax.lax instead"
    if isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        return (
            "JAX cannot trace it, it takes out pixels by a bool array, so its length depends on the frame; use"
            " jnp.where(condition, frame, 0)"
        )
    if isinstance(error, jax.errors.ConcretizationTypeError):  # also `if`, `while` and int() of a number
        return (
            "JAX cannot trace it, its course depends on the frame's values; use jnp.where or jax.lax.cond in place of"
            " `if`, and sizes that are fixed"
        )
    if isinstance(error, jax.errors.UnexpectedTracerError) or "Leaked" in str(error):
        return "it keeps values of a frame outside of itself; a reduction must only return them"
    return f"fails for a frame of {FRAME} x {FRAME} pixels ({_in_a_line(error)})"


def _adapted(function: Any, spec: str) -> Reduction:
    """Give a user's function the signature of a reduction and float32 numbers."""
    if isinstance(function, type) or not callable(function):
        raise UserError(f"{spec}: is not a function but {_a(type(function).__name__)}; name a function")
    takes_mask = _takes_mask(function, spec)

    def reduction(frame: jax.Array, valid: jax.Array | None = None) -> jax.Array:
        if takes_mask:
            numbers = function(frame, valid)
        else:
            numbers = function(frame if valid is None else jnp.where(valid, frame, 0))
        return _as_vector(numbers, spec)

    reduction.__name__ = reduction.__qualname__ = getattr(function, "__name__", "reduction")
    return reduction


def _takes_mask(function: Callable[..., Any], spec: str) -> bool:
    """Tell whether a function takes (frame, valid), or the frame alone."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        parameters = list(signature.parameters.values())
        several = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
        places = [
            parameter
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        # A second one with a value of its own, such as width=3, is an option and no mask.
        mask = several if len(places) < 2 else places[1].default in (None, inspect.Parameter.empty)
        try:
            signature.bind(*((None, None) if mask else (None,)))
            return mask
        except TypeError:
            pass
    raise UserError(
        f"{spec}: takes {signature or 'unknown arguments'}; a reduction takes (frame, valid) or (frame)"
    )


def _as_vector(numbers: Any, spec: str) -> jax.Array:
    if not isinstance(numbers, jax.Array | np.ndarray):
        raise UserError(
            f"{spec}: returns {_a(type(numbers).__name__)}; a reduction returns one array, (length,) or (length, channels)"
        )
    if numbers.ndim not in (1, 2) or 0 in numbers.shape:
        raise UserError(
            f"{spec}: returns an array of shape {numbers.shape}; a reduction returns (length,) or (length, channels)"
        )
    if not any(jnp.issubdtype(numbers.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise UserError(f"{spec}: returns numbers of type {numbers.dtype}; a reduction returns real ones")
    return jnp.asarray(numbers).astype(jnp.float32)


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
        _modules[key] = _run(*key, source, spec)
    return digest, _modules[key]


def _run(path: Path, digest: str, source: bytes, spec: str) -> types.ModuleType:
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
        raise UserError(f"{spec}: {path.name} cannot be imported ({_in_a_line(error, path)})") from error
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
        raise UserError(f"{spec}: the module {name} cannot be imported ({_in_a_line(error)})") from error


def _suggest(module: types.ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    return f"it has {', '.join(sorted(names)[:8])}" if names else "it has no function"


def _in_a_line(error: BaseException, path: Path | None = None) -> str:
    """Return an error's kind, its first line, and the last line of `path` that it came through."""
    line = (str(error).strip().splitlines() or [""])[0]
    text = f"{type(error).__name__}: {line}" if line else type(error).__name__
    if isinstance(error, SyntaxError) or path is None:
        return text
    trace, number = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            number = trace.tb_lineno
        trace = trace.tb_next
    return text if number is None else f"{text}, line {number}"


def _a(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
