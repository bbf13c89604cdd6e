"""The simulated sets in the user's cache: how much they take, and how they are removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from sfxjax.command_line import call_of
from sfxjax.files import user_cache_folder

# Sets that nobody has used for a day are removed, the oldest first, once all take more than this.
MOST_CACHED = 30 * 10**9
UNUSED_SECONDS = 24 * 3600.0
PATTERNS = ("simulated_sets-*", "simulated_particles-*")


def cached_sets() -> list[tuple[Path, int]]:
    """List the folders of simulated sets in the cache and their bytes, the one that was not used for longest first."""
    root = user_cache_folder()
    # A link in the cache is the user's, and so is what it leads to.
    folders = [
        path for pattern in PATTERNS for path in root.glob(pattern) if path.is_dir() and not path.is_symlink()
    ]
    return [(path, _size(path)) for path in sorted(folders, key=_last_use)]


def clean() -> tuple[int, int]:
    """Remove all simulated sets of the cache; returns how many folders and bytes there were."""
    found = cached_sets()
    for path, _ in found:
        shutil.rmtree(path, ignore_errors=True)
    return len(found), sum(size for _, size in found)


def used(folder: Path) -> None:
    """Note that a folder of the cache is in use, and remove others that nobody uses while all take too much."""
    os.utime(folder)
    found = cached_sets()
    total = sum(size for _, size in found)
    for path, size in found:
        unused = time.time() - _last_use(path) > UNUSED_SECONDS
        if total > MOST_CACHED and unused and path != folder:
            shutil.rmtree(path, ignore_errors=True)
            total -= size


def cache_line() -> str:
    """Say where simulated sets are kept, what they take, and how to be rid of them."""
    total = sum(size for _, size in cached_sets())
    return (
        f"simulated sets are kept in {user_cache_folder()}, {total / 1e9:.1f} GB by now; "
        f"{call_of('simulate')} --clean removes them"
    )


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        # Another process has removed it.
        return time.time()


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # Another process may be writing there.
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total
