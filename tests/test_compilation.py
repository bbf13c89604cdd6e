"""Programs compiled as users compile them give what the tests' quickly compiled ones give."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_day_one
from screen_cases import frames, tiny_model

from sfxjax import compilation
from sfxjax.compilation import compiler_options, jit_for_device, keep_compiled
from sfxjax.screen.scorer import Screener
from sfxjax.spots.day_one import find_spots

REPOSITORY = Path(__file__).resolve().parents[1]


def computed() -> dict[str, np.ndarray]:
    """What the product's programs give for the same frames: scores and spots."""
    return {"scores": np.asarray(Screener(tiny_model()).scores(frames(4))), **found_spots()}


def found_spots() -> dict[str, np.ndarray]:
    """What the day-one model finds in a frame."""
    found = find_spots(test_day_one.crystal_frame(300.0, 120.0))
    return {
        "spots": np.stack([found.ss, found.fs, found.probability], axis=1)[found.spots()],
        "number of spots": np.array([found.score, found.fourth]),
    }


def test_programs_compiled_as_users_do_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "computed.npz"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    subprocess.run([sys.executable, __file__, path], env=environment, check=True, timeout=300)
    quickly = computed()
    assert len(quickly["spots"]) > 3
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        at_once = found_spots()
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    with np.load(path) as optimised:
        for name, values in at_once.items():
            np.testing.assert_allclose(values, optimised[name], rtol=1e-3, atol=1e-4, err_msg=name)
        assert set(optimised) == set(quickly)
        for name, values in quickly.items():
            np.testing.assert_allclose(values, optimised[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_an_option_that_xla_does_not_know_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiler_options() == {"xla_cpu_prefer_vector_width": "512"}
    monkeypatch.setattr(compilation, "_OF_PROCESSORS", {"xla_cpu_prefer_no_such_thing": "512"})
    assert compiler_options() == {}
    doubled = jit_for_device(lambda values, times: times * values, static_argnames="times")
    np.testing.assert_array_equal(doubled(jnp.arange(3), times=2), [0, 2, 4])


def test_a_kept_program_that_a_kill_cut_short_is_removed_and_kept_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jax.experimental.compilation_cache import compilation_cache

    monkeypatch.setenv("SFXJAX_CACHE", str(tmp_path))
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in settings]

    def compiled() -> Path:
        """Compile a program anew, or read it; returns its file."""
        folder = keep_compiled(True)
        assert folder is not None
        jax.config.update(settings[1], 0.0)
        compilation_cache.reset_cache()
        jax.clear_caches()
        jax.jit(lambda x: jnp.cos(x) @ x.T)(jnp.ones((19, 3))).block_until_ready()
        return next(folder.glob("jit__lambda*-cache"))

    try:
        program = compiled()
        content = program.read_bytes()
        program.write_bytes(content[: len(content) // 2])
        with pytest.warns(UserWarning, match="persistent compilation cache"):
            # Young enough to be in the middle of being written by somebody else.
            assert len(compiled().read_bytes()) == len(content) // 2
        os.utime(program, (0, 0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert compiled() == program and len(program.read_bytes()) > len(content) // 2
            # One known to be whole is not read again to find that out.
            keep_compiled(True)
            assert program.name in (program.parent / "whole").read_text().split()
    finally:
        for name, value in zip(settings, before, strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()


if __name__ == "__main__":
    np.savez(sys.argv[1], **computed())
