"""HDF5 files opened so that no link leads out of the run's folder unless the user allows it.

HDF5 follows external links, virtual data sets and external storage by itself, wherever they point. Here every
link on the way to a data set is looked at first, and external ones are followed by this module, not by HDF5:
a file from elsewhere then cannot make the reader open other files of the user's.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from sfxjax.errors import UserError, explain_os_error
from sfxjax.files import is_file, not_a_file, refuse_pipe

MAX_LINKS = 32
# Files of a virtual data set that are watched.
MOST_SIZES = 64
# What h5py raises of damaged files, besides MemoryError.
DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, UnicodeError)
# A chunk is decompressed whole, and a frame is held whole: beyond these sizes the file is not believed.
MAX_CHUNK_BYTES = 2**30
MAX_FRAMES = 10_000_000


@dataclass
class Files:
    """HDF5 files open for reading, with the rule for links between them. A context manager.

    Attributes:
        root: folder that links may lead into; anything below it counts as the run's own.
        allow_links: follow links anywhere.
        growing: the files are still being written.
    """

    root: Path
    allow_links: bool = False
    growing: bool = False
    _open: dict[Path, h5py.File] = field(default_factory=dict)

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Close every file."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def open(self, path: Path) -> h5py.File:
        """Open a file, or return it if it is open.

        Raises:
            UserError: it is missing, not HDF5, or damaged.
        """
        real = path.resolve()
        if real not in self._open:
            self._open[real] = _open_hdf5(path, self.growing)
        return self._open[real]

    def get(self, path: Path, name: str) -> h5py.Group | h5py.Dataset | None:
        """Return the object called `name` in the file `path`, or None if there is none.

        Raises:
            UserError: the way leads out of the run's folder, in circles, to a missing file, or the object is
                damaged.
        """
        with damage_named(f"{path}: {name}"):
            return self._walk(path, self.open(path), name, MAX_LINKS)

    def dataset(self, path: Path, name: str) -> h5py.Dataset | None:
        """Return a data set that can be read safely, or None if there is none of that name.

        Raises:
            UserError: as `get`; or its pixels lie in files outside the run's folder, need a compression
                filter that is not installed, or their chunks have an absurd size.
        """
        found = self.get(path, name)
        if not isinstance(found, h5py.Dataset):
            return None
        self.check_storage(found)
        return found

    def check_storage(self, data: h5py.Dataset) -> None:
        """Check where a data set's pixels lie and how they are stored.

        Raises:
            UserError: as `dataset`.
        """
        with damage_named(f"{data.file.filename}: {data.name}"):
            self._check_storage(data, set())

    def _check_storage(self, data: h5py.Dataset, seen: set[tuple[str, str]]) -> None:
        own = Path(data.file.filename)
        seen.add((str(own), str(data.name)))
        for name, *_ in data.external or ():
            # HDF5 looks for it in the working folder, not beside the file: no folder makes it the run's own.
            if not self.allow_links:
                raise UserError(
                    f"{own}: {data.name} keeps its pixels outside, in {_decoded(name)!r}; "
                    "if you trust the file, give --allow-links"
                )
        for source, source_name in virtual_sources(data):
            for place in opened_for(own, source):
                self._permit(own, place, "a virtual data set")
            # One that is missing or damaged costs its frames alone, see `missing_virtual_frames`.
            if _has_data_set(source, source_name) and "%" not in source_name:
                inner = self.get(source, source_name)
                if isinstance(inner, h5py.Dataset) and (str(source), str(inner.name)) not in seen:
                    self._check_storage(inner, seen)
        need_filters(data)
        if data.chunks is not None:
            size = int(np.prod([float(length) for length in data.chunks])) * data.dtype.itemsize
            if size > MAX_CHUNK_BYTES:
                raise UserError(f"{own}: {data.name} has chunks of {size / 1e9:.3g} GB; is the file damaged?")

    def _walk(self, path: Path, start: h5py.Group, name: str, left: int) -> Any:
        if left <= 0:
            raise UserError(f"{path}: {name} is a link that leads in circles")
        here: Any = start.file["/"] if name.startswith("/") else start
        parts = [part for part in PurePosixPath(name.strip("/")).parts if part != "."]
        for number, part in enumerate(parts):
            if not isinstance(here, h5py.Group):
                return None
            link = here.get(part, getlink=True)
            if link is None:
                return None
            rest = "/".join(parts[number + 1 :])
            if isinstance(link, h5py.SoftLink):
                return self._walk(path, here, "/".join(filter(None, [link.path, rest])), left - 1)
            if isinstance(link, h5py.ExternalLink):
                own = Path(here.file.filename)
                target = linked(own, _decoded(link.filename))
                if what := not_a_file(target):
                    raise UserError(f"{path}: links to {target}, which is {what}; put the file beside it")
                self._permit(own, target, f"the link {part}")
                wanted = "/".join(filter(None, ["/" + link.path.strip("/"), rest]))
                return self._walk(target, self.open(target), wanted, left - 1)
            here = here[part]
        return here

    def _permit(self, own: Path, target: Path, what: str) -> None:
        if self.allow_links or target == own:
            return
        real, root = target.resolve(), self.root.resolve()
        # A link in a folder of links leads to the real file, and what lies beside that is the run's own.
        if not {root, own.resolve().parent} & set(real.parents):
            gone = "" if real.is_file() else " (which is missing)"
            raise UserError(
                f"{own}: {what} points to {real}{gone}, outside the run's folder {root}; "
                "if you trust the file, give --allow-links"
            )


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Raise a UserError about a file in place of what h5py raises where it is damaged.

    Args:
        where: the file, and what of it is read.
    """
    try:
        yield
    except MemoryError as error:
        raise UserError(f"{where}: does not fit into memory; is the file damaged?") from error
    except DAMAGE as error:
        explained = explain_os_error(error) if isinstance(error, OSError) else None
        raise UserError(f"{where}: {explained or f'is damaged ({first_line(error)})'}") from error


def located(path: Path, name: str) -> tuple[Path, str]:
    """Return the file and the path of a data set named as /PATH, in a given file, or as FILE:/PATH, in another one."""
    file, colon, inner = name.rpartition(":/")
    return (Path(file), f"/{inner}") if colon else (path, name)


def linked(own: Path, name: str) -> Path:
    """Return the file that a link in a file names.

    Where that is missing it is, as HDF5 has it, the one of that bare name beside the file: a run that was copied keeps the paths
    of where it was written. A file that is itself a symbolic link has its links' targets beside the real one.

    Args:
        own: the file that holds the link.
        name: as the link has it.
    """
    named = own.parent / name
    if is_file(named):
        return named
    real = own.resolve().parent
    places = [named, real / name, own.parent / Path(name).name, real / Path(name).name]
    there = (place for test in (is_file, os.path.lexists) for place in places if test(place))
    return next(there, named)


def virtual_sources(data: h5py.Dataset) -> list[tuple[Path, str]]:
    """List (file, data set) of a virtual data set's sources, each once: a set of a million frames may name one a million times.

    A pattern such as `part-%b.h5` stands for many files in one folder; its folder is what matters here.
    """
    if not data.is_virtual:
        return []
    own = Path(data.file.filename)
    named = dict.fromkeys((source.file_name, source.dset_name) for source in data.virtual_sources())
    return list(dict.fromkeys((own if file == "." else linked(own, file), name) for file, name in named))


def opened_for(own: Path, source: Path) -> list[Path]:
    """List the files that HDF5 may open for a source of a virtual data set.

    Where the named file is missing it takes a namesake beside the file, or in the working folder, and only then one beside the
    real file that a symbolic link leads to.
    """
    real = own.resolve().parent
    if source.is_file() and (own.parent.resolve() == real or not source.is_relative_to(real)):
        return [source]
    relative = source.relative_to(own.parent) if source.is_relative_to(own.parent) else Path(source.name)
    places = [source, own.parent / source.name, Path.cwd() / relative, Path.cwd() / source.name]
    found = [source]
    for place in places:
        # A pattern such as part-%b.h5 stands for part-0.h5 and so on.
        name = re.sub(r"%\w", "*", glob.escape(place.name))
        found += [path for path in place.parent.glob(name) if path.is_file()] if place.parent.is_dir() else []
    return found


def missing_virtual_frames(data: h5py.Dataset) -> list[tuple[int, int, str]]:
    """List (first frame, last frame, why) of frames missing in a virtual data set: HDF5 silently fills such frames.

    A source counts as missing where it does not lie beside the file, though HDF5 looks elsewhere too, or lacks the data set.
    """
    missing = []
    own = Path(data.file.filename)
    known: dict[tuple[str, str], tuple[Path, bool]] = {}
    for source in data.virtual_sources() if data.is_virtual else ():
        if source.file_name == "." or "%" in source.file_name:
            continue
        named = source.file_name, source.dset_name
        if named not in known:
            place = linked(own, source.file_name)
            known[named] = place, _has_data_set(place, source.dset_name)
        place, is_there = known[named]
        if not is_there:
            low, high = source.vspace.get_select_bounds()
            what = not_a_file(place) or f"damaged, or without {source.dset_name}"
            why = f"the file {source.file_name} with this frame is {what}"
            missing.append((int(low[0]), int(high[0]), why))
    return missing


def sizes_of(data: h5py.Dataset) -> dict[Path, int]:
    """Return the sizes in bytes of the files that a data set's pixels lie in, as far as there are such files."""
    files = [Path(data.file.filename), *(source for source, _ in virtual_sources(data))]
    return {path: path.stat().st_size for path in dict.fromkeys(files[:MOST_SIZES]) if is_file(path)}


def refuse_cut(sizes: dict[Path, int]) -> None:
    """Refuse what was read of files that are shorter now than before: HDF5 reads zeros behind the end of a file.

    Raises:
        UserError: one is.
    """
    for place, (path, size) in enumerate(sizes.items()):
        # The first is open, and is read even where its name is gone; of others HDF5 then makes zeros.
        gone = not is_file(path)
        if place > 0 if gone else path.stat().st_size < size:
            raise UserError(f"{path}: cut short or taken away while it was read; fetch it again")


def _has_data_set(path: Path, name: str) -> bool:
    """Tell whether a file is there and holds a data set; a pattern of names counts as one."""
    if not is_file(path):
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "%" in name or name in file
    except DAMAGE:
        return False


def need_filters(data: h5py.Dataset) -> None:
    """Load hdf5plugin if a data set is compressed by a filter that HDF5 itself lacks.

    Raises:
        UserError: hdf5plugin is needed and missing, or does not have the filter.
    """
    properties = data.id.get_create_plist()
    codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if not missing:
        return
    own = data.file.filename
    try:
        import hdf5plugin  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{own}: compressed by HDF5 filter {missing[0]}; install hdf5plugin to read it"
        ) from error
    for code in missing:
        if not h5py.h5z.filter_avail(code):
            raise UserError(f"{own}: compressed by HDF5 filter {code}, which hdf5plugin does not have")


def _open_hdf5(path: Path, growing: bool) -> h5py.File:
    refuse_pipe(path)
    try:
        if growing:
            try:
                # Only files of the newest format have a mode for reading while they are written.
                return h5py.File(path, "r", swmr=True, libver="latest", locking=False)
            except (OSError, ValueError):
                pass
        return h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        if "truncated" in reason:
            raise UserError(f"{path}: the file is cut short; fetch it again ({reason})") from error
        if any(words in reason for words in ("SWMR", "open for write", "consistency flags")):
            raise UserError(
                f"{path}: another program writes it; give --follow to read what it writes, or wait until it is closed ({reason})"
            ) from error
        if "signature not found" in reason:
            raise UserError(f"{path}: not an HDF5 file") from error
        explained = explain_os_error(error, path) if isinstance(error, OSError) else None
        raise UserError(explained or f"{path}: cannot be opened ({reason})") from error


def _decoded(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
