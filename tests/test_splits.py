from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from sfxjax.data.labels import parse_annotations
from sfxjax.data.set_description import CXIDB76
from sfxjax.data.splits import Split, split
from sfxjax.errors import UserError

# Positives and negatives as printed in the paper, by test range.
PAPER_COUNTS = {
    "full": {"LN83": (65, 335), "LN84": (216, 184), "LO19": (162, 238)},
    "few": {"LN83": (329, 1271), "LN84": (753, 847), "LO19": (694, 906)},
}


def one_based(frames: range) -> tuple[int, int]:
    assert frames.step == 1
    return frames.start + 1, frames.stop


def test_full_is_the_split_of_table_1() -> None:
    full = split("full")
    assert one_based(full.train) == (1, 1200)
    assert one_based(full.validation) == (1201, 1600)
    assert one_based(full.test) == (1601, 2000)


def test_few_is_the_split_of_tables_2_to_4() -> None:
    few = split("few")
    assert one_based(few.train) == (1, 200)
    assert one_based(few.validation) == (201, 400)
    assert one_based(few.test) == (401, 2000)


@pytest.mark.parametrize("name", PAPER_COUNTS)
@pytest.mark.parametrize("set_name", ["LN83", "LN84", "LO19"])
def test_test_frames_hold_the_printed_counts(shared: Path, name: str, set_name: str) -> None:
    path = shared / "data" / "cxidb76" / set_name / "expert_annotation.txt"
    labels = parse_annotations(path, 2000, CXIDB76[set_name][1])
    test = labels[split(name).test]
    assert (np.count_nonzero(test), np.count_nonzero(test == 0)) == PAPER_COUNTS[name][set_name]


@pytest.mark.parametrize("name", ["full", "few"])
@pytest.mark.parametrize("frames", [10, 37, 240, 1999, 2000, 4001])
def test_parts_cover_a_set_of_any_length_in_the_same_proportions(name: str, frames: int) -> None:
    part, whole = split(name, frames), split(name)
    assert [*part.train, *part.validation, *part.test] == list(range(frames))
    assert part.frames == frames
    for ours, theirs in ((part.train, whole.train), (part.validation, whole.validation)):
        assert ours.stop <= theirs.stop * frames / 2000 < ours.stop + 1


def test_boundaries_of_a_short_set_are_rounded_down() -> None:
    # 1200 * 249 / 2000 = 149.4 and 1600 * 249 / 2000 = 199.2; 24.9 and 49.8 for the other.
    assert split("full", 249) == Split("full", range(149), range(149, 199), range(199, 249))
    assert split("few", 249) == Split("few", range(24), range(24, 49), range(49, 249))


def test_a_split_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        split("full").train = range(3)  # type: ignore[misc]


def test_unknown_split_lists_the_known() -> None:
    with pytest.raises(UserError, match="'half'; choose one of full, few"):
        split("half")


@pytest.mark.parametrize(("name", "frames"), [("full", 0), ("full", 1), ("few", 9), ("few", -5)])
def test_a_set_too_short_is_refused(name: str, frames: int) -> None:
    with pytest.raises(UserError, match="too short"):
        split(name, frames)
