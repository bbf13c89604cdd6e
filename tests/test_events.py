from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfxjax.data.events import absolute, crystfel_line, dials_experiments, parse_crystfel_line
from sfxjax.data.inputs import find_files
from sfxjax.errors import UserError

PIECES = [
    "a",
    " ",
    "  ",
    "//",
    "/",
    ".",
    "é",
    "☃",
    "#",
    ";",
    "=",
    "%",
    "'",
    '"',
    "\t",
    "\\",
    "run",
    "-",
    "17",
    "\udcff",
]


def test_any_name_and_event_survive_a_list() -> None:
    generator = np.random.default_rng(0)
    for _ in range(3000):
        name = "/x/" + "".join(generator.choice(PIECES, generator.integers(1, 9))) + "z"
        event = str(generator.choice(["//0", "//17", "chunk_0//3", "a/b//1999", "//", ""]))
        line = crystfel_line(name, event)
        file, found = parse_crystfel_line(line)
        assert file == absolute(name)
        assert found == event or (event == "" and found == "//")
        if event:
            # One space before the event; what the parser takes at the last space is the event, whole.
            assert line == f"{absolute(name)} {event}"
            path_parts, _, dims = line.rsplit(" ", 1)[1].partition("//")
            assert (path_parts, dims) == (event.partition("//")[0], event.partition("//")[2])


@pytest.mark.parametrize(("name", "event"), [("a\nb.h5", "//1"), ("a\r.h5", ""), ("a.h5", "my chunk//1")])
def test_what_a_list_cannot_hold_is_refused(name: str, event: str) -> None:
    with pytest.raises(UserError, match="rename"):
        crystfel_line(name, event)


def test_the_dials_selection_names_each_frame() -> None:
    frames = [("/d/a.h5", "//3", 3), ("/d/b c.cbf", "", None)]
    found = json.loads("".join(dials_experiments(frames)))
    assert found["__id__"] == "ExperimentList"
    assert [entry["imageset"] for entry in found["experiment"]] == [0, 1]
    assert [entry["images"] for entry in found["imageset"]] == [["/d/a.h5"], ["/d/b c.cbf"]]
    assert found["imageset"][0]["single_file_indices"] == [3]
    assert "single_file_indices" not in found["imageset"][1]
    assert json.loads("".join(dials_experiments([])))["experiment"] == []


def test_folders_and_patterns_are_expanded_in_a_natural_order(tmp_path: Path) -> None:
    for name in ("r10.h5", "r9.h5", "notes.txt", "r1_data_000001.h5", "r1_master.h5", ".hidden.h5"):
        (tmp_path / name).touch()
    expected = [str(tmp_path / name) for name in ("r1_master.h5", "r9.h5", "r10.h5")]
    assert list(find_files([str(tmp_path)]).files) == expected
    assert list(find_files([str(tmp_path / "r?.h5"), str(tmp_path / "r10.h5")]).files) == expected[1:]
    assert list(find_files([expected[2], str(tmp_path)]).files) == [expected[2], *expected[:2]]
    for wrong in ("gone.h5", "*.cxi"):
        with pytest.raises(UserError):
            list(find_files([str(tmp_path / wrong)]).files)
