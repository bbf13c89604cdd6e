"""Numbers in words: shares and counts as the user reads them."""

from __future__ import annotations

import pytest

from sfxjax.text import counted, per_cent


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
