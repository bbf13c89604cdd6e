"""What a model's `model.json` may say: each value that makes no sense is refused in a line when it is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from test_storage import assert_equal, model

from sfxjax.errors import UserError
from sfxjax.models.checkpoint import load_model, save_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_model(tmp_path / "run" / "model", model())


def rewrite(folder: Path, **changes: object) -> None:
    file = folder / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


NO_THRESHOLDS = (*("NaN", "Infinity", "-0.1", "1.0000001", '"0.5"', "true", "null", "[]"), "9" * 7, "9" * 400)
NO_CONFIGS = {
    **{"dimensions": (True, 1, 2.0, -1), "block": (0, -8, 7, 2**40, 8.0, "8"), "spot": (2, 10**9, "3", True)},
    **{"features": (0, -1, 2**63, 1e308, []), "dropout": (1, -0.1, "x"), "noise_normalised": (0, "no", None)},
    "channels": ([], [0], [-2, 2], [2, 1e308], ["2", "3"], "23", {}, [2] * 10, [4096] * 8, [[2], [3]]),
}


@pytest.mark.parametrize("text", NO_THRESHOLDS)
def test_thresholds_that_are_no_probability_are_refused(text: str, saved: Path) -> None:
    path = saved / "model.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"threshold": 0.125}).replace("0.125", text))
    with pytest.raises(UserError, match=r"model\.json (is damaged|cannot be read).*; train the model again"):
        load_model(saved)


@pytest.mark.parametrize("key", NO_CONFIGS)
def test_bases_of_no_sense_are_refused_before_room_is_made_for_them(key: str, saved: Path) -> None:
    written = json.loads((saved / "model.json").read_text())
    for value in NO_CONFIGS[key]:
        rewrite(saved, config=written["config"] | {key: value})
        with pytest.raises(UserError, match="again"):
            load_model(saved)


@pytest.mark.parametrize("version", [[[]], None, 3, {}])
def test_a_version_that_is_none_is_refused(version: object, saved: Path) -> None:
    rewrite(saved, sfxjax=version)
    with pytest.raises(UserError, match=r"model\.json is damaged .the version of sfxjax is"):
        load_model(saved)


def test_descriptions_that_are_deep_long_or_of_other_data_are_refused(saved: Path, monkeypatch) -> None:
    path = saved / "model.json"
    whole = path.read_text()
    names = {"names": ["median_magnitude"], "low": [0.0], "high": [1.0]}
    for about in (
        *({"frame_statistics": names | {"low": [None]}}, {"frame_statistics": names | {"high": []}}),
        *({"frame_statistics": [1]}, {"validation": {"scores": [0.5], "positives": []}}),
        {"validation": {"scores": ["0.5"], "positives": [1]}},
    ):
        rewrite(saved, trained_on=about)
        with pytest.raises(UserError, match="is damaged"):
            load_model(saved)
    for text in (whole.replace('"é"', "[" * 10**5 + "]" * 10**5), "[" * 10**6, whole.replace("{", "[")):
        path.write_text(text.replace('"\\u00e9"', "[" * 10**5 + "]" * 10**5))
        with pytest.raises(UserError, match="cannot be read"):
            load_model(saved)
    path.write_text(whole)
    load_model(saved)
    monkeypatch.setattr("sfxjax.json_files.MOST_JSON_BYTES", 100)
    with pytest.raises(UserError, match="more than 100 bytes"):
        load_model(saved)


def test_weights_that_are_no_numbers_or_whose_checksums_were_made_anew_are_refused(
    tmp_path: Path, capfd
) -> None:
    original = model()
    leaves, tree = jax.tree.flatten(original.variables)
    leaves[0] = np.full_like(leaves[0], np.nan)
    bad = save_model(
        tmp_path / "nan" / "model", replace(original, variables=jax.tree.unflatten(tree, leaves))
    )
    with pytest.raises(UserError, match="not all are numbers"):
        load_model(bad)
    folder = save_model(tmp_path / "run" / "model", original)
    refused: list[str] = []
    for path in sorted((folder / "weights").rglob("d/*")):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        sums = {
            other.relative_to(folder / "weights").as_posix(): hashlib.sha256(other.read_bytes()).hexdigest()
            for other in (folder / "weights").rglob("*")
            if other.is_file()
        }
        rewrite(folder, sha256=sums)
        # Some files hold nothing that the arrays need.
        try:
            assert_equal(load_model(folder), original)
        except UserError as error:
            refused.append(str(error))
        path.write_bytes(content)
    assert refused and all("is damaged" in line for line in refused)
    assert "Traceback" not in capfd.readouterr().err
    rewrite(folder, sha256={})
    with pytest.raises(UserError, match="not as they were written"):
        load_model(folder)
