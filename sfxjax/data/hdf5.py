"""HDF5 files opened so that no link leads out of the run's folder unless the user allows it.

HDF5 follows external links, virtual data sets and external storage by itself, wherever they point. Here every
link on the way to a data set is looked at first, and external ones are followed by this module, not by HDF5:
a file from elsewhere then cannot make the reader open other files of the user's.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from sfxjax.data.bitshuffle import packs, rows_unpacked, whole_chunks
from sfxjax.data.filters import by_plugin, need_filters
from sfxjax.data.opening import DAMAGE, damage_named, in_words, open_hdf5
from sfxjax.data.values_apart import Place, forget_files, values_apart
from sfxjax.data.virtual_sets import has_data_set, linked, opened_for, virtual_sources
from sfxjax.errors import UserError
from sfxjax.files import not_a_file

# Links after each other, and virtual data sets in each other.
MAX_LINKS = 32
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
    # Of the data sets whose storage was looked at: whether a plug-in decompresses them.
    _by_plugin: dict[tuple[int, int], bool] = field(default_factory=dict)

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
        if any(self._by_plugin.values()):
            forget_files()
        self._by_plugin.clear()

    def open(self, path: Path) -> h5py.File:
        """Open a file, or return it if it is open.

        Raises:
            UserError: it is missing, not HDF5, or damaged.
        """
        real = path.resolve()
        if real not in self._open:
            self._open[real] = open_hdf5(path, self.growing)
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

    def values(self, data: h5py.Dataset, place: Place = ()) -> np.ndarray:
        """Read a data set of numbers, or a part of it: in a process of its own what may make the plug-in crash that unpacks it.

        Args:
            data: of one of the files.
            place: of the part; what it does not name is taken whole.

        Raises:
            UserError: it is damaged, or ended that process; or as `check_storage`.
        """
        apart = self._by_plugin.get(object_identity(data))
        if apart is None:
            apart = self.check_storage(data)
        if apart:
            packed = packs(data)
            rows = rows_unpacked(data, place) if packed and not self.growing else None
            if rows is not None:
                return rows
            if multiprocessing.parent_process() is None and not (packed and whole_chunks(data, place)):
                return values_apart(data, place, self.growing)
        try:
            return np.asarray(data[place])
        except DAMAGE as error:
            raise UserError(in_words(error)) from error

    def check_storage(self, data: h5py.Dataset) -> bool:
        """Check where a data set's pixels lie and how they are stored; tell whether a plug-in decompresses them.

        Raises:
            UserError: as `dataset`.
        """
        with damage_named(f"{data.file.filename}: {data.name}"):
            return self._check_storage(data, ())

    def _check_storage(self, data: h5py.Dataset, above: tuple[tuple[int, int], ...]) -> bool:
        own, identity = Path(data.file.filename), object_identity(data)
        if identity in self._by_plugin:
            return self._by_plugin[identity]
        if identity in above:
            raise UserError(
                f"{own}: {data.name} is a virtual data set of itself, which holds no values; write it anew"
            )
        if len(above) > MAX_LINKS:
            raise UserError(
                f"{own}: {data.name} is the last of {MAX_LINKS} virtual data sets in each other; write them anew"
            )
        for name, *_ in data.external or ():
            # HDF5 looks for it in the working folder, not beside the file: no folder makes it the run's own.
            if not self.allow_links:
                raise UserError(
                    f"{own}: {data.name} keeps its pixels outside, in {_decoded(name)!r}; "
                    "if you trust the file, give --allow-links"
                )
        apart = by_plugin(data)
        for source, source_name in virtual_sources(data):
            for place in opened_for(own, source):
                self._permit(own, place, "a virtual data set")
            inner = None
            # One that is missing or damaged costs its frames alone, see `missing_virtual_frames`.
            if has_data_set(source, source_name) and "%" not in source_name:
                inner = self.get(source, source_name)
            # What cannot be looked at may be anything, this data set among it.
            known = isinstance(inner, h5py.Dataset)
            apart |= not known or self._check_storage(inner, (*above, identity))
        need_filters(data)
        if data.chunks is not None:
            size = int(np.prod([float(length) for length in data.chunks])) * data.dtype.itemsize
            if size > MAX_CHUNK_BYTES:
                raise UserError(f"{own}: {data.name} has chunks of {size / 1e9:.3g} GB; is the file damaged?")
        self._by_plugin[identity] = apart
        return apart

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


def located(path: Path, name: str) -> tuple[Path, str]:
    """Return the file and the path of a data set named as /PATH, in a given file, or as FILE:/PATH, in another one."""
    file, colon, inner = name.rpartition(":/")
    return (Path(file), f"/{inner}") if colon else (path, name)


def _decoded(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def object_identity(item: h5py.Group | h5py.Dataset) -> tuple[int, int]:
    """Return what tells an object of open files from any other, by whatever links it was reached."""
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr
