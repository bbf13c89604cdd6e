"""The documents name tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(page for page in (ROOT / "docs").glob("*.md") if "::test_" in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    file = ""
    named = re.findall(r"`(?:tests/)?(test_\w+\.py)?(?:::(test_\w+))?`", page.read_text())
    assert any(test for _, test in named)
    for module, test in named:
        file = module or file
        if file:
            content = (ROOT / "tests" / file).read_text()
            assert not test or f"def {test}(" in content, (file, test)
