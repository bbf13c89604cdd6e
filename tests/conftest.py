"""What every test shares: JAX on two host devices, and the reference data where a checkout has them."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The tests compile far more than they compute. XLA's fusion emitters and its second level of optimisation are most of that.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=1",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)


def pytest_configure(config: pytest.Config) -> None:
    """Set JAX up before a test module can import it, for this process and all that it starts.

    All share compiled programs, also with the next run. Tests marked slow are compiled as users compile; without them,
    programs are compiled quickly, and `test_compilation.py` compares the two.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("compiled")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    if "XLA_FLAGS" not in os.environ:
        quick = (
            QUICK_COMPILATION
            if config.option.markexpr == "not slow" and _are_known(QUICK_COMPILATION)
            else ()
        )
        os.environ["XLA_FLAGS"] = " ".join(("--xla_force_host_platform_device_count=2", *quick))


def _are_known(flags: tuple[str, ...]) -> bool:
    """Return whether this version of XLA has the flags: one that has not ends the process."""
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    tried = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(tried, env=environment, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def compiled_at_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile a module's programs without any optimisation, for tests that compile much and compute little.

    What computes much, such as training and scores of whole frames, takes longer so.
    """
    import jax

    jax.config.update("jax_disable_most_optimizations", request.config.option.markexpr == "not slow")
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data beside the repository; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no reference data beside this checkout")
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_compiled_programs() -> Iterator[None]:
    """Let go of a module's compiled programs after it: each takes mappings of memory, of which a process may have so many."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()
