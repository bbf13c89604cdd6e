"""Models on disk: whole or not at all, read back bit by bit, and refused when they are not what they should be."""

from __future__ import annotations

import builtins
import errno
import json
import pickle
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import sfxjax
from sfxjax.errors import UserError, run_main
from sfxjax.models.checkpoint import (
    TrainedModel,
    example_maps,
    load_model,
    read_checkpoint,
    save_model,
    write_checkpoint,
)
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig


def model(reduction: str | None = None, seed: int = 0) -> TrainedModel:
    """A network of random weights, with values that no short decimal holds."""
    config = BaseConfig(dimensions=1 if reduction else 2, channels=(2, 3), features=4)
    maps = example_maps(config, reduction)
    shapes = jax.eval_shape(lambda: HitClassifier(config).init(jax.random.key(0), maps))
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape).astype(leaf.dtype), dict(shapes))
    about = {"simulated": True, "frames": [40, 40], "note": "é"}
    return TrainedModel(config, variables, threshold=1 / 3, reduction=reduction, trained_on=about)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A saved model; not to be written to."""
    return save_model(tmp_path_factory.mktemp("run") / "model", model())


@pytest.fixture
def saved(kept: Path, tmp_path: Path) -> Path:
    """A copy of a saved model, to be damaged."""
    return shutil.copytree(kept, tmp_path / "run" / "model")


def assert_equal(ours: TrainedModel, theirs: TrainedModel) -> None:
    assert (ours.config, ours.threshold, ours.reduction) == (
        theirs.config,
        theirs.threshold,
        theirs.reduction,
    )
    assert ours.trained_on == theirs.trained_on
    assert jax.tree.structure(ours.variables) == jax.tree.structure(theirs.variables)
    for a, b in zip(jax.tree.leaves(ours.variables), jax.tree.leaves(theirs.variables), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_prints_in_a_line() -> None:
    named = replace(model(), trained_on={"source": "LN83", "target": None})
    assert repr(named) == "TrainedModel(2D CNN, 315 weights, trained on LN83)"
    adapted = replace(model("soft_spot_counts"), trained_on={"source": "LN83", "target": "LO19"})
    assert repr(adapted) == "TrainedModel(1D CNN on soft_spot_counts, 249 weights, trained on LN83 -> LO19)"
    assert repr(model()).endswith("trained on unnamed data)")


def test_models_of_other_versions_are_refused_in_a_line_that_names_the_version(saved: Path, capsys) -> None:
    path = saved / "model.json"
    written = json.loads(path.read_text())
    assert written["sfxjax"] == sfxjax.__version__
    # As it was written before the fields of the configuration had the names they have.
    old = {key: value for key, value in written.items() if key != "sfxjax"} | {"format": 1}
    old["config"] = {
        {"noise_normalised": "own_noise"}.get(key, key): value for key, value in old["config"].items()
    }
    path.write_text(json.dumps(old))
    with pytest.raises(
        UserError, match=r"another version of sfxjax, before 0\.1\.0 \(format 1, .*; train it again"
    ):
        load_model(saved)
    assert run_main(lambda: load_model(saved) and None) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    path.write_text(json.dumps(written | {"format": 3, "sfxjax": "0.9.2"}))
    with pytest.raises(UserError, match=r"sfxjax, 0\.9\.2 \(format 3, and this is .*, format 2\)"):
        load_model(saved)


@pytest.mark.parametrize("reduction", [None, "row_wise_decomposition"])
def test_a_model_is_read_back_bit_by_bit(reduction: str | None, tmp_path: Path) -> None:
    original = model(reduction)
    folder = save_model(tmp_path / "run" / "model", original)
    assert_equal(load_model(folder), original)
    # The folder of the run will do too, and the description can be read by eye.
    assert_equal(load_model(tmp_path / "run"), original)
    assert json.loads((folder / "model.json").read_text())["trained_on"] == original.trained_on
    inputs = np.random.default_rng(3).random((2, *((720,) if reduction else (720, 720)))).astype(np.float32)
    np.testing.assert_array_equal(original.scores(inputs), load_model(folder).scores(inputs))


def test_a_second_model_takes_the_place_of_the_first(saved: Path) -> None:
    other = model(seed=1)
    save_model(saved, other)
    assert_equal(load_model(saved), other)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_numbers_of_every_kind_survive_a_checkpoint(tmp_path: Path) -> None:
    tree = {
        "float32": np.array([np.pi, np.nan, np.inf, -0.0, 1e-42], np.float32),
        "nested": {"int32": np.arange(5, dtype=np.int32), "scalar": np.int32(7)},
    }
    write_checkpoint(tmp_path / "c", tree, {"epoch": 3})
    got, description = read_checkpoint(tmp_path / "c", tree)
    assert description == {"epoch": 3}
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(tree), strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_no_model_there(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="no trained model in .*train one with"):
            load_model(place)


def _rewrite(folder: Path, **changes: object) -> None:
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _drop(folder: Path, key: str) -> None:
    fields = json.loads((folder / "model.json").read_text())
    del fields[key]
    (folder / "model.json").write_text(json.dumps(fields))


def _empty(folder: Path) -> None:
    for path in (folder / "weights").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def _cut(folder: Path) -> None:
    """Keep the first half of the files that hold the numbers."""
    for path in (folder / "weights").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(folder: Path) -> None:
    """Change one bit in the largest file."""
    path = max(
        (path for path in (folder / "weights").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "other format": (lambda folder: _rewrite(folder, format=0), "of another version of sfxjax"),
    "a list": (lambda folder: (folder / "model.json").write_text("[]"), "of another version of sfxjax"),
    "no JSON": (lambda folder: (folder / "model.json").write_text("{"), "cannot be read"),
    "no text": (lambda folder: (folder / "model.json").write_bytes(b"\x80\xff\x00"), "cannot be read"),
    "a key missing": (lambda folder: _drop(folder, "threshold"), "damaged"),
    "a threshold in words": (lambda folder: _rewrite(folder, threshold="high"), "damaged"),
    "an unknown field": (lambda folder: _rewrite(folder, config={"colour": 1}), "damaged"),
    "fields without names": (lambda folder: _rewrite(folder, config=[1, 2]), "damaged"),
    "an unknown base": (lambda folder: _rewrite(folder, config={"dimensions": 4}), "no convolutional base"),
    "an unknown reduction": (lambda folder: _rewrite(folder, reduction="none"), "reduction"),
    "another shape": (lambda folder: _rewrite(folder, config={"channels": [5, 5]}), "damaged"),
    "no weights": (lambda folder: shutil.rmtree(folder / "weights"), "damaged"),
    "empty weights": (_empty, "damaged"),
    "weights cut short": (_cut, "damaged"),
    "a bit flipped": (_flip, "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_models_end_in_a_line(damage: str, saved: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.unraisablehook", lambda told: pytest.fail(f"a thread tells of {told}"))
    spoil, words = DAMAGE[damage]
    spoil(saved)
    with pytest.raises(UserError, match=words):
        load_model(saved)
    assert run_main(lambda: load_model(saved) and None) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def _fail_in_tensorstore(*_: object, **__: object) -> None:
    raise ValueError(
        'RESOURCE_EXHAUSTED: Failed writing: "d/0": Failed to write 116 bytes to file 9: No space left on device'
    )


def _fail_in_python(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fail", [_fail_in_tensorstore, _fail_in_python])
def test_a_disk_that_fills_up_in_orbax_is_told_in_a_line(fail, saved: Path, monkeypatch, capsys) -> None:
    import orbax.checkpoint as ocp

    before = contents(saved.parent)
    monkeypatch.setattr(ocp.StandardCheckpointer, "save", fail)
    assert run_main(lambda: save_model(saved, model(seed=1)) and None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the disk is full" in line
    assert str(saved) in line
    assert contents(saved.parent) == before


def test_a_full_disk_is_noticed_before_orbax_starts(saved: Path, monkeypatch, capsys) -> None:
    import orbax.checkpoint as ocp

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", lambda *_: pytest.fail("threads would complain"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    before = contents(saved.parent)
    assert run_main(lambda: save_model(saved, model(seed=1)) and None) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert contents(saved.parent) == before


def test_other_failures_are_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    import orbax.checkpoint as ocp

    def fail(*_: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", fail)
    with pytest.raises(ValueError, match="something else"):
        save_model(tmp_path / "model", model())
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="name another output folder"):
        save_model(tmp_path / "model", model())
    assert contents(tmp_path) == {"model/thesis.tex": b"x"}


def test_nothing_is_unpickled(saved: Path, tmp_path: Path, monkeypatch) -> None:
    """Neither by reading a model, nor where a pickle takes the place of one of its files."""
    mark = tmp_path / "mark"

    class Trap:
        def __reduce__(self):
            return builtins.open, (str(mark), "w")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("unpickled"))
    load_model(saved)
    trap = pickle.dumps(Trap())
    for path in [path for path in saved.rglob("*") if path.is_file() and path.stat().st_size]:
        content = path.read_bytes()
        path.write_bytes(trap)
        with pytest.raises(UserError):
            load_model(saved)
        path.write_bytes(content)
    assert not mark.exists()


def test_threads_write_at_the_same_time(tmp_path) -> None:
    """Orbax alone comes to a standstill here."""

    def write(number: int) -> None:
        for step in range(6):
            write_checkpoint(tmp_path / f"{number}" / f"{step}", {"a": np.full(50, number + step)}, {})

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    for number in range(4):
        tree, _ = read_checkpoint(tmp_path / f"{number}" / "5", {"a": np.zeros(50, int)})
        np.testing.assert_array_equal(tree["a"], number + 5)
