"""The folder of a training run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from sfxjax.errors import UserError
from sfxjax.training.config import RunConfig, TrainingConfig
from sfxjax.training.run_folder import begun, check_folder, finished

PLAN = RunConfig(
    "reduced",
    "mine",
    None,
    50,
    "soft_spot_counts",
    TrainingConfig(),
    data={"mine": {"labels": "a", "files": []}},
)


def test_what_differs_from_the_run_of_a_folder_is_named(tmp_path: Path) -> None:
    with begun(PLAN, tmp_path):
        check_folder(tmp_path, PLAN)
    assert finished(PLAN, tmp_path) is None
    for other, words in (
        (
            dataclasses.replace(PLAN, data={"mine": {"labels": "b", "files": []}}),
            "with other labels of mine;",
        ),
        (
            dataclasses.replace(PLAN, data={"mine": {"labels": "a", "files": ["x"]}}),
            "with other frames, mask or geometry of mine;",
        ),
        (dataclasses.replace(PLAN, labels=20), r"with other settings \(labels\);"),
        (
            dataclasses.replace(PLAN, recipe=dataclasses.replace(PLAN.recipe, seed=9)),
            r"with other settings \(seed\);",
        ),
    ):
        with pytest.raises(UserError, match=words):
            finished(other, tmp_path)
        with pytest.raises(UserError, match=words), begun(other, tmp_path):
            pass


def test_a_second_process_is_refused_and_a_killed_ones_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".results.0123abcd.part.json").touch()
    (tmp_path / ".model.0123abcd.part").mkdir()
    program = (
        "import sys; from pathlib import Path; from sfxjax.files import only_process\n"
        f"with only_process(Path({str(tmp_path)!r}), 'training'): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        with pytest.raises(UserError, match="another process is training into"), begun(PLAN, tmp_path):
            pass
        assert not (tmp_path / "settings.json").exists()
        process.kill()
    with begun(PLAN, tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".training.lock", "settings.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_planted_lock_is_not_written_to(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".training.lock").symlink_to(theirs)
    with begun(PLAN, tmp_path / "run"):
        pass
    assert theirs.read_text() == "precious"
