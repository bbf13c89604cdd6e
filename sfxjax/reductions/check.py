"""Checks a function that comes from elsewhere, a user's file or an installed package, before it is used as a reduction."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import FRAME
from sfxjax.errors import UserError
from sfxjax.reductions.definition import Reduction, noise_filled

# Relative to the largest number: what another order of adding up may change.
TOLERANCE = 1e-4


def checked_reduction(function: Any, spec: str) -> Reduction:
    """Give a function the form of a reduction, and try it on made-up frames.

    Args:
        function: takes (frame, valid) or (frame); the latter sees 0, the background's level, in place of invalid pixels.
        spec: what messages call it.

    Returns:
        A reduction of (frame, valid) with float32 numbers.

    Raises:
        UserError: it is not what a reduction must be; the message says why.
    """
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
    if getattr(function, "noise_filled", False):
        noise_filled(reduction)
    check_reduction(reduction, spec)
    return reduction


def check_reduction(reduction: Reduction, spec: str) -> None:
    """Try a reduction on made-up frames.

    JAX must be able to trace and vmap it; its numbers must be finite, depend on the frame, and depend neither on pixels that
    `valid` excludes nor on anything outside the frame.

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
    bare, masked = _compiled_reduction(reduction, False), _compiled_reduction(reduction, True)

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
    if not np.array_equal(np.asarray(_compiled_reduction(reduction, False)(frames[0])), plain[0]):
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
    if not _equal(masked(frames[0], everywhere), plain[0]):
        raise UserError(
            f"{spec}: gives other numbers for valid=None than for pixels that are all valid; the two must mean the same"
        )
    if getattr(reduction, "noise_filled", False) and not (
        _equal(bare(2 * frames[0]), 2 * plain[0])
        and _equal(bare(frames[0, ::-1, ::-1].copy()), plain[0][::-1])
    ):
        raise UserError(
            f"{spec}: is marked noise_filled, but twice the frame does not give twice the vector, or a frame rotated by 180"
            " degrees not the vector backwards; take the mark away"
        )


def one_line(error: BaseException, path: Path | None = None) -> str:
    """Return an error's kind, its first line, and the last line of the file `path` that it came through."""
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


def _equal(numbers: jax.Array, expected: np.ndarray) -> bool:
    return np.allclose(numbers, expected, TOLERANCE, TOLERANCE * np.abs(expected).max())


def _compiled_reduction(reduction: Reduction, with_mask: bool) -> Callable[..., jax.Array]:
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
    return f"fails for a frame of {FRAME} x {FRAME} pixels ({one_line(error)})"


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


def _a(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
