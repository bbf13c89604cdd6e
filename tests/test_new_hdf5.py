"""HDF5 files that are written where the system refuses: an error in a line, no crash of HDF5, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfxjax.data.new_hdf5 import NewHDF5

# A limit of the system itself, so that HDF5 meets what it meets on a full disk.
WRITE = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from sfxjax.data.new_hdf5 import NewHDF5
from sfxjax.files import atomic_write

path, limit, checks = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "checks"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with atomic_write(path) as temporary, NewHDF5(temporary, path) as file:
        data = file.create_dataset("a/data", (40, 64, 64), np.uint16, chunks=(1, 64, 64), compression="gzip")
        for number in range(40):
            data[number] = np.random.default_rng(number).integers(0, 60000, (64, 64))
            if checks:
                file.check()
        file["a/text"] = "of any length"
except OSError as error:
    print("refused", error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of the system there")
@pytest.mark.parametrize(("limit", "checks"), [(0, "no"), (2000, "no"), (100_000, "no"), (100_000, "checks")])
def test_what_the_system_refuses_to_write_is_an_error_and_no_crash(
    limit: int, checks: str, tmp_path: Path
) -> None:
    path = tmp_path / "hits.cxi"
    path.write_bytes(b"as it was")
    call = [sys.executable, "-c", WRITE, str(path), str(limit), checks]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"refused {path}\n", "")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("hits.cxi", b"as it was")]


def test_what_is_written_is_read_by_hdf5_itself(tmp_path: Path) -> None:
    with NewHDF5(tmp_path / "new.h5") as file:
        file["a/data"] = np.arange(6).reshape(2, 3)
        file.attrs["simulated"] = True
        file.check()
    with h5py.File(tmp_path / "new.h5") as file:
        assert file["a/data"][:].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert file.attrs["simulated"]
    with pytest.raises(FileExistsError):
        NewHDF5(tmp_path / "new.h5")
