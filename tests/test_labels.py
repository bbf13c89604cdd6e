"""Labels in CSV files: words, numbers of spots, a screening's own list; and what is refused in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfxjax.data.labels import HIT, MAYBE, MISS, UNLABELLED, Label, classify, read_labels
from sfxjax.errors import UserError

FRAMES = [("run/a.h5", "//0"), ("run/a.h5", "//1"), ("run/b.cbf", ""), ("other/a.h5", "//0")]


def labels_of(tmp_path: Path, text: str, frames: list[tuple[str, str]] = FRAMES) -> list[int]:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, frames).tolist()


def test_the_classes_by_spots() -> None:
    np.testing.assert_array_equal(classify([0, 3, 4, 9, 10, 400]), [MISS, MISS, MAYBE, MAYBE, HIT, HIT])
    assert [label.name for label in Label] == ["MISS", "MAYBE", "HIT"]


def test_words_in_any_case_columns_in_any_order_and_more_of_them(tmp_path: Path) -> None:
    text = "index,Event,label,file\n0,//0,hit,run/a.h5\n1,1,Maybe,run/a.h5\n2,,MISS,run/b.cbf\n"
    assert labels_of(tmp_path, text) == [HIT, MAYBE, MISS, UNLABELLED]


def test_numbers_of_spots(tmp_path: Path) -> None:
    text = "file,event,spots\nrun/a.h5,//1,12\nother/a.h5,//0,3\nb.cbf,,4\n"
    assert labels_of(tmp_path, text) == [UNLABELLED, HIT, MAYBE, MISS]


def test_files_by_their_whole_path_and_by_a_name_that_only_one_has(tmp_path: Path) -> None:
    whole = Path("run/a.h5").resolve()
    assert labels_of(tmp_path, f"file,event,label\n{whole},0,2\nb.cbf,,0\n") == [
        HIT,
        UNLABELLED,
        MISS,
        UNLABELLED,
    ]


def test_the_list_of_a_screening_without_its_errors(tmp_path: Path) -> None:
    text = "file,event,index,score,label,reason\nrun/a.h5,//0,0,0.9,HIT,\nrun/a.h5,//1,1,,ERROR,all pixels are 0\n"
    assert labels_of(tmp_path, text) == [HIT, UNLABELLED, UNLABELLED, UNLABELLED]


def test_numbers_as_programs_write_them_that_know_no_empty_integers(tmp_path: Path) -> None:
    text = "file,event,spots\nrun/a.h5,//0,12.0\nrun/a.h5,//1,\nrun/b.cbf,,3.0\n"
    assert labels_of(tmp_path, text) == [HIT, UNLABELLED, MISS, UNLABELLED]


@pytest.mark.parametrize("event", ["", "0", "//0"])
def test_the_only_image_of_a_file_is_its_first(tmp_path: Path, event: str) -> None:
    text = f"file,event,label\nb.cbf,{event},hit\n"
    assert labels_of(tmp_path, text) == [UNLABELLED, UNLABELLED, HIT, UNLABELLED]


def test_a_path_as_given_goes_before_a_name_that_two_files_have(tmp_path: Path) -> None:
    frames = [("a.h5", "//0"), ("other/a.h5", "//0")]
    assert labels_of(tmp_path, "file,event,label\na.h5,0,hit\n", frames) == [HIT, UNLABELLED]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 labels for 4 frames"),
        (
            "file,event,class\nrun/a.h5,0,hit\n",
            "columns file, event, class; file, event, and label or spots are needed",
        ),
        ("file,label\nrun/a.h5,hit\n", "file, event, and label or spots are needed"),
        ("file,event,label\nrun/a.h5,//0,perhaps\n", "line 2: 'perhaps' is none of MISS, MAYBE, HIT"),
        ("file,event,label\nrun/a.h5,//7,hit\n", "line 2: there is no frame //7 in run/a.h5"),
        ("file,event,label\na.h5,//0,hit\n", "line 2: 2 files are named a.h5; write the paths"),
        # Only one of the two has such a frame, which may still be a slip.
        ("file,event,label\na.h5,//1,hit\n", "line 2: 2 files are named a.h5; write the paths"),
        ("file,event,label\nc.h5,//0,hit\n", "line 2: there is no frame //0 in c.h5"),
        ("file,event,label\nrun/a.h5,,hit\n", "line 2: there is no frame  in run/a.h5"),
        ("file,event,label\n", "no frame has a label; fill in the column label"),
        ("file,event,spots\nrun/a.h5,//0,\n", "no frame has a label; fill in the column spots"),
        ("file,event,label\nrun/a.h5\0,//0,hit\n", "not a text file of labels"),
        (f"file,event,label\nrun/a.h5,//0,{'h' * 200_000}\n", "not a file of labels"),
        ("file,event,spots\nrun/a.h5,//0,4.5\n", "line 2: '4.5' is no number of spots"),
        ("file,event,label\nrun/a.h5,//0,hit\n\nrun/a.h5,0,miss\n", "line 4: the frame of line 2 again"),
        ("file,event,spots\nrun/a.h5,//0,-3\n", "line 2: '-3' is no number of spots"),
        ("file,event,label\nrun/a.h5,//0\n", "line 2: 2 columns, where the first line names 3"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        labels_of(tmp_path, text)
    assert "\n" not in str(error.value)
