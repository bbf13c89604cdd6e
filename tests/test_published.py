"""The published figures against the counts of frames they come from, and against the deposition's labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfxjax.data.labels import MISS, parse_annotations
from sfxjax.data.set_description import CXIDB76
from sfxjax.errors import UserError
from sfxjax.training.published import (
    CLASS_COUNTS,
    PAIRS,
    SETS,
    TABLE_1,
    TABLE_3,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLE_TITLES,
    FrameRange,
    cells,
    frame_range,
)

TABLES = (1, 2, 3, 4, 5, 7)
# Table 5, DANN LO19 -> LN84, accuracy on Miss on the source's 238 frames: 231 of them would be 97.06 %, 230 96.64 %.
NO_COUNT = (5, "LO19", "LN84", "LO19", 97.00)


def is_count(percent: float, total: int) -> bool:
    """Whether some whole number of `total` frames prints as this percentage with two decimals."""
    nearest = round(percent * total / 100)
    return any(
        f"{100 * count / total:.2f}" == f"{percent:.2f}" for count in (nearest - 1, nearest, nearest + 1)
    )


def test_every_published_figure_but_one_is_a_count_of_its_test_frames() -> None:
    figures = {
        (cell.table, cell.source, cell.target, cell.tested, percent): is_count(percent, total)
        for table in TABLES
        for cell in cells(table)
        if (table, cell.method) != (7, "supervised")  # printed in Table 1 already
        for percent, total in zip(cell.published, CLASS_COUNTS[cell.frames][cell.tested], strict=True)
    }
    assert len(figures) == 78
    assert [key for key, exact in figures.items() if not exact] == [NO_COUNT]


@pytest.mark.parametrize("other", ["last", "after_few", "all"])
def test_no_other_range_explains_the_figures(other: FrameRange) -> None:
    # A range that happened to hold round numbers of frames would pass the test above as well.
    wrong = [
        is_count(percent, total)
        for table in TABLES
        for cell in cells(table)
        if cell.frames != other
        for percent, total in zip(cell.published, CLASS_COUNTS[other][cell.tested], strict=True)
        if percent < 100
    ]
    assert wrong.count(False) >= 3


@pytest.mark.parametrize("name", SETS)
def test_class_counts_are_those_of_the_depositions_labels(shared: Path, name: str) -> None:
    path = shared / "data" / "cxidb76" / name / "expert_annotation.txt"
    positive = parse_annotations(path, 2000, CXIDB76[name][1]) != MISS
    for frames, counts in CLASS_COUNTS.items():
        tested = positive[frame_range(frames).start : frame_range(frames).stop]
        assert counts[name] == (tested.sum(), (~tested).sum()), frames


def test_ranges_are_the_papers_and_shrink_with_the_set() -> None:
    assert frame_range("last") == range(1600, 2000)
    assert frame_range("after_few") == range(400, 2000)
    assert frame_range("all") == range(2000)
    assert frame_range("last", 500) == range(400, 500)
    assert frame_range("after_few", 500) == range(100, 500)
    with pytest.raises(UserError, match="some"):
        frame_range("some")  # type: ignore[arg-type]


def test_tables_hold_the_cells_the_paper_prints() -> None:
    assert {table: len(cells(table)) for table in TABLES} == {1: 9, 2: 3, 3: 6, 4: 3, 5: 12, 7: 12}
    assert set(TABLE_3) == set(TABLE_5) == set(TABLE_7) == set(PAIRS)
    assert set(TABLE_1) == {(trained, tested) for trained in SETS for tested in SETS}
    assert set(TABLE_TITLES) == {*TABLES, 6}
    assert all(word in {"None", "Low", "Medium", "High"} for word in TABLE_6["Recall"])
    with pytest.raises(UserError, match="table 6"):
        cells(6)


def test_two_dimensional_networks_of_table_7_are_those_of_table_1() -> None:
    assert {pair: carried.two_dimensional for pair, carried in TABLE_7.items()} == {
        pair: TABLE_1[pair] for pair in PAIRS
    }


@pytest.mark.parametrize("table", TABLES)
def test_cells_name_the_run_they_are_of(table: int) -> None:
    for cell in cells(table):
        assert cell.table == table
        assert cell.tested in (cell.source, cell.target) or cell.method in ("supervised", "reduced")
        assert (cell.target is not None) == (cell.method in ("transfer", "dann"))
        if cell.frames == "all":
            # All frames of a set are tested only where none of its labels were used.
            assert cell.tested != cell.source
