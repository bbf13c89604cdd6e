"""Numbers in words: shares and counts as the user reads them."""

from __future__ import annotations

import pytest

from sfxjax.text import counted, first_few, per_cent, plus_minus


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (0.9999, "99.99 %"),
        (0.36, "36 %"),
        (0.0606, "6.1 %"),
        (0.0, "0 %"),
        (5e-8, "less than 0.0001 %"),
    ],
)
def test_shares(share: float, text: str) -> None:
    assert per_cent(share) == text


def test_counts() -> None:
    assert [counted(number, "files") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_of_many_names_the_first_are_named() -> None:
    assert first_few(iter("ab"), 2) == "a, b"
    assert first_few("abcde", 2) == "a, b and 3 more"
    assert first_few("abc", 1, between="; ", things="gaps") == "a and 2 more gaps"
    assert first_few([]) == ""


def test_a_mean_stands_with_its_deviation_if_it_has_one() -> None:
    assert (plus_minus(97.96, 0.04), plus_minus(3), plus_minus(0.12345, 0.01, 3)) == (
        "98.0 ± 0.0",
        "3.0",
        "0.123 ± 0.010",
    )
