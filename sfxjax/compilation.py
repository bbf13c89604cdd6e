"""How programs are compiled for the device, and keeping them on disk, so that a command that runs again does not compile again.

They are kept only if that is asked for. What is kept are machine programs, which are run without further checks when they are
read again. So they lie in a folder that no other user may enter.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sfxjax.errors import UserError
from sfxjax.files import atomic_write_text, user_cache_folder
from sfxjax.text import say

VARIABLE = "SFXJAX_COMPILATION_CACHE"
FOLDER = "compiled"
WHOLE_PROGRAMS = "whole"
# One that is younger may be in the middle of being written by another process.
WRITTEN_SECONDS = 60
# Programs that compile faster are not worth a file.
LEAST_SECONDS = 0.5
# A first result that takes longer is told what it waits for.
LONG_SECONDS = 5.0
# XLA computes with vectors of 256 bits where a processor has 512 (AVX-512), unless it is told to prefer those; others ignore it.
_OF_PROCESSORS: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}


def compiler_options() -> dict[str, str | bool]:
    """Return what XLA is told of the device that JAX computes on: that a processor computes with its widest vectors."""
    import jax

    return dict(_OF_PROCESSORS) if jax.default_backend() == "cpu" and _are_taken(**_OF_PROCESSORS) else {}


@cache
def _are_taken(**options: str | bool) -> bool:
    """Tell whether this version of XLA has the options: it compiles nothing with one that it does not know."""
    import jax

    program = jax.jit(lambda value: value).lower(jax.ShapeDtypeStruct((), "float32"))
    try:
        program.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def jit_for_device(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """As `jax.jit`, with `compiler_options`; the result cannot be called in another program.

    Args:
        function: of arrays.
        **options: of `jax.jit`.
    """

    @cache
    def program() -> Callable[..., Any]:
        # Made when it is called: which device there is may not be asked earlier.
        import jax

        return jax.jit(function, compiler_options=compiler_options(), **options)

    def call(*arguments: Any, **named: Any) -> Any:
        return program()(*arguments, **named)

    return call


def keep_compiled(asked: bool = False) -> Path | None:
    """Have JAX keep compiled programs in the cache folder, if the caller or the environment asks for it.

    Args:
        asked: whether the command line asks for it; else `SFXJAX_COMPILATION_CACHE` decides, where anything but
            nothing and 0 is a yes.

    Returns:
        The folder, or None if nothing is kept.

    Raises:
        UserError: the folder cannot be made, or belongs to somebody else.
    """
    if not asked and os.environ.get(VARIABLE, "0").strip() in ("", "0"):
        return None
    import jax

    folder = _private_folder(user_cache_folder() / FOLDER / _machine())
    _remove_damaged(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return folder


@contextmanager
def said_compiling(kept: bool) -> Iterator[Callable[[], None]]:
    """Say that programs are being compiled, if the first result of some work takes long.

    Args:
        kept: whether they are kept, see `keep_compiled`.

    Yields:
        A function to call once there is a result.
    """
    advice = "" if kept else "; --compilation-cache keeps it for the next time"
    timer = threading.Timer(LONG_SECONDS, say, [f"compiling for this frame size{advice}"])
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def _private_folder(folder: Path) -> Path:
    """Make a folder, and its parent, that nobody else may enter."""
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for part in (folder.parent, folder):
            part.mkdir(mode=0o700, exist_ok=True)
            status = part.lstat()
            if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
                raise UserError(
                    f"{part} is not a folder of yours: compiled programs are not kept there; "
                    "set SFXJAX_CACHE to another folder"
                )
            if stat.S_IMODE(status.st_mode) != 0o700:
                part.chmod(0o700)
    except OSError as error:
        raise UserError(
            f"no folder for compiled programs can be made at {folder} ({error.strerror}); "
            "set SFXJAX_CACHE to another folder"
        ) from error
    return folder


def _remove_damaged(folder: Path) -> None:
    """Remove programs that a kill cut short: JAX would warn of them for ever, and never write them anew.

    Each is looked at once; their names are kept in `WHOLE_PROGRAMS`.
    """
    names = folder / WHOLE_PROGRAMS
    try:
        known = set(names.read_text().split()) if names.exists() else set()
        programs = {path.name: path for path in folder.glob("*-cache")}
        whole = known & set(programs)
        for name in set(programs) - known:
            path = programs[name]
            if _is_whole(path.read_bytes()):
                whole.add(name)
            elif time.time() - path.stat().st_mtime > WRITTEN_SECONDS:
                path.unlink(missing_ok=True)
        if whole != known:
            atomic_write_text(names, "\n".join(sorted(whole)))
    except (OSError, ValueError):
        # Of a folder that cannot be written or that another process tidies at this moment: nothing is lost but time.
        return


def _is_whole(program: bytes) -> bool:
    """Say whether a kept program can be unpacked; JAX packs by zlib, or by Zstandard where Python has it."""
    if not program.startswith(b"x"):
        try:
            from compression import zstd  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            return bool(program)
        try:
            return bool(zstd.decompress(program))
        except zstd.ZstdError:
            return False
    try:
        return bool(zlib.decompress(program))
    except zlib.error:
        return False


def _machine() -> str:
    """Name the kind of processor: a program for one may not run on another that shares the home folder."""
    facts = [platform.machine(), platform.system()]
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    facts += next(([line] for line in lines if line.startswith(("flags", "Features"))), lines[:1])
    return f"{platform.machine() or 'machine'}-{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:12]}"
