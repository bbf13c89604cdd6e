"""The documents name tests that are there, and the site made of them holds together."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

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


class Links(HTMLParser):
    """Collects what a page links to and shows, and the places in it that can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag, attrs) -> None:
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        self.addresses += [values[key] for key in ("href", "src") if values.get(key)]


@pytest.mark.slow
def test_the_site_is_built_and_every_link_in_it_leads_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    pages = {}
    for path in tmp_path.rglob("*.html"):
        pages[path] = Links()
        pages[path].feed(path.read_text())
    assert (tmp_path / "walkthrough" / "index.html") in pages
    reference = pages[tmp_path / "reference" / "sfxjax.models" / "index.html"]
    assert "sfxjax.models.gradient_reversal.gradient_reversal" in reference.ids
    for path, page in pages.items():
        for address in page.addresses:
            parts = urlparse(address)
            if parts.scheme or parts.netloc:
                continue
            start = tmp_path if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), (path, address)
            if parts.fragment and target in pages and not parts.fragment.startswith("__"):
                assert parts.fragment in pages[target].ids, (path, address)
