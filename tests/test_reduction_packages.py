"""Reductions of installed packages, found by their entry point: here a package that is one folder on the path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from sfxjax.errors import UserError
from sfxjax.models.checkpoint import TrainedModel, example_maps, load_model, save_model
from sfxjax.models.inputs import base_for
from sfxjax.models.networks import HitClassifier
from sfxjax.reductions.registry import ORIGINS, REDUCTIONS, get_reduction, is_noise_filled, origin_of
from sfxjax.reductions.user_code import load_reduction

RING_MAXIMA = """\
import jax
import jax.numpy as jnp
import numpy as np

RING = np.hypot(*(np.mgrid[:720, :720] - 359.5)).astype(int).ravel() // 4


def ring_maxima(frame, valid=None):
    seen = frame if valid is None else jnp.where(valid, frame, -jnp.inf)
    return jnp.maximum(jax.ops.segment_max(seen.ravel(), RING, 128), 0)
"""
ROW_MAXIMA = """\
import jax.numpy as jnp
from sfxjax.reductions.definition import noise_filled


@noise_filled
def ring_maxima(frame, valid=None):
    return (frame if valid is None else jnp.where(valid, frame, 0)).max({axis})
"""


def install(
    folder: Path, code: str = RING_MAXIMA, *, package: str = "sample-reductions", version: str = "1.2"
) -> Path:
    """Lay out what pip would: a module, and the metadata that name its entry point."""
    module = package.replace("-", "_")
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[sfxjax.reductions]\nring_maxima = {module}:ring_maxima\n")
    return folder


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    """Every test starts as a new process does, as far as reductions go."""
    before = dict(REDUCTIONS)
    ORIGINS.clear()
    yield
    forget(before)


def forget(before: dict) -> None:
    REDUCTIONS.clear()
    REDUCTIONS.update(before)
    ORIGINS.clear()
    for name in [name for name in sys.modules if name.startswith("sample_")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def model_on(reduction: str) -> TrainedModel:
    config = base_for(reduction)
    maps = example_maps(config, reduction)
    variables = jax.jit(lambda: HitClassifier(config).init(jax.random.key(0), maps))()
    return TrainedModel(config, dict(variables), reduction=reduction)


def test_a_model_finds_the_version_of_the_package_it_was_trained_with(tmp_path: Path, monkeypatch) -> None:
    before = dict(REDUCTIONS)
    monkeypatch.syspath_prepend(install(tmp_path / "old"))
    assert load_reduction("ring_maxima") == "ring_maxima"
    assert origin_of("ring_maxima") == {"package": "sample-reductions", "version": "1.2"}
    assert not is_noise_filled("ring_maxima")
    folder = save_model(tmp_path / "model", model_on("ring_maxima"))
    for given in (None, "ring_maxima"):
        assert load_model(folder, reduction=given).reduction == "ring_maxima"
    with pytest.raises(UserError, match="made by ring_maxima, not by rwd"):
        load_model(folder, reduction="rwd")

    forget(before)
    assert load_model(folder).reduction == "ring_maxima"

    forget(before)
    monkeypatch.syspath_prepend(install(tmp_path / "new", version="1.3"))
    with pytest.raises(
        UserError, match=r"that of sample-reductions 1\.3; pip install sample-reductions==1\.2"
    ):
        load_model(folder)


def test_a_noise_filled_reduction_says_so_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(install(tmp_path, ROW_MAXIMA.format(axis=1)))
    assert is_noise_filled("ring_maxima")
    assert base_for("ring_maxima").noise_normalised
    frame = np.random.default_rng(0).normal(size=(720, 720)).astype(np.float32)
    np.testing.assert_array_equal(get_reduction("ring_maxima")(frame, None), frame.max(1))


FAULTS = {
    "NaN": (RING_MAXIMA.replace("jnp.maximum(", "jnp.log(-1 - ").replace(", 128), 0)", ", 128))"), "ring_maxima: gives NaN"),
    "a matrix too many": (RING_MAXIMA.replace(", 0)\n", ", 0)[None, None]\n"), r"returns an array of shape \(1, 1, 128\)"),
    "complex numbers": (RING_MAXIMA.replace(", 0)\n", ", 0) * 1j\n"), "returns numbers of type complex64"),
    "a package that fails": ("import nowhere\n", "of the package sample-reductions cannot be imported"),
    "no such function": ("", "of the package sample-reductions cannot be imported"),
    "noise-filled, it says": (RING_MAXIMA.replace("\ndef ring", "\nfrom sfxjax.reductions.definition import noise_filled"
                              "\n@noise_filled\ndef ring"), "marked noise_filled, but"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_package_offers_is_checked_as_a_users_code_is(fault: str, tmp_path: Path, monkeypatch) -> None:
    code, words = FAULTS[fault]
    monkeypatch.syspath_prepend(install(tmp_path, code))
    with pytest.raises(UserError, match=words):
        get_reduction("ring_maxima")
    assert "ring_maxima" not in REDUCTIONS


def test_two_packages_with_one_name_are_told_apart(tmp_path: Path, monkeypatch) -> None:
    for package in ("sample-reductions", "sample-others"):
        monkeypatch.syspath_prepend(install(tmp_path / package, package=package))
    with pytest.raises(UserError, match="several packages.*: sample-others, sample-reductions; uninstall"):
        get_reduction("ring_maxima")
    with pytest.raises(UserError, match="unknown reduction 'rings'; choose one of: row.*, ring_maxima"):
        get_reduction("rings")
