"""What every test shares: JAX on two host devices, and the reference data where a checkout has them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# JAX reads both once, at its first import, so they are set before any test module can import it.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_configure(config: pytest.Config) -> None:
    """Let all test processes share compiled programs: most of the time of the tests is compilation."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    compiled = tempfile.mkdtemp(prefix="sfxjax-tests-compiled-")
    config.add_cleanup(lambda: shutil.rmtree(compiled, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data beside the repository; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no reference data beside this checkout")
    return folder
