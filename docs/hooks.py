"""What the site has beside the pages of this folder: the README as its first page, the API's reference, and files linked to.

Links of a page to files elsewhere in the repository, which work where the repository is browsed, are kept: those to pages become
links within the site, and other files are copied to it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sfxjax"
# A link of Markdown with its address, none of another site.
LINK = re.compile(r"(\]\()(?!https?:|#)([^)#\s]+)")


def on_config(config: Any) -> Any:
    """Add the reference's pages to the navigation."""
    config.nav.append({"Reference": [f"reference/{'.'.join(package.parts)}.md" for package in _packages()]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the first page, a page of reference for each package, and what pages link to outside of this folder."""
    pages = {"index.md": (ROOT / "README.md", ROOT)}
    pages |= {
        file.src_uri: (Path(str(file.abs_src_path)), ROOT / "docs") for file in files.documentation_pages()
    }
    for name, (path, folder) in pages.items():
        if path.suffix == ".ipynb":
            continue
        text, linked = with_links(path.read_text(), folder)
        if name in files.src_uris:
            files.remove(files.src_uris[name])
        files.append(File.generated(config, name, content=text))
        for target in linked:
            if f"files/{target}" not in files.src_uris:
                files.append(File.generated(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    for package in _packages():
        name = ".".join(package.parts)
        modules = sorted(path for path in (ROOT / package).glob("*.py") if not path.stem.startswith("__"))
        members = [f"::: {name}", *(f"::: {name}.{path.stem}" for path in modules)]
        files.append(
            File.generated(config, f"reference/{name}.md", content="\n\n".join([f"# {name}", *members]))
        )
    return files


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Let a notebook's links lead to the pages that are made of the files they name."""
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    return re.sub(r'href="(\w+)\.md"', r'href="../\1/"', output)


def with_links(text: str, folder: Path) -> tuple[str, list[Path]]:
    """Change the links of a page to files of the repository into links of the site.

    Args:
        text: of the page.
        folder: that its links start from.

    Returns:
        The page, and the files to copy, from the repository's root.
    """
    copied: list[Path] = []

    def replaced(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return match[0]
        inside = target.relative_to(ROOT)
        if inside.parts[0] == "docs":
            return match[1] + "/".join(inside.parts[1:])
        if target.is_dir():
            return match[0]
        copied.append(inside)
        # A page of Markdown copied as it is would be built into a page of its own.
        return f"{match[1]}files/{inside}"

    return LINK.sub(replaced, text), copied


def _packages() -> list[Path]:
    return sorted(path.parent.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("__init__.py"))
