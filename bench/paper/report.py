"""One page with everything: whether the paper's findings hold, its tables and its figures, ours beside them.

The page is self-contained: pictures are inside it, and it loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfxjax.files import atomic_write_text
from sfxjax.page import render_page
from sfxjax.screen.pictures import data_address

from .claims import STORED, Finding, claims, count_verdicts
from .table_layout import NOT_RUN, PAGE_WORDS, Table, from_markdown, to_markdown

PICTURES: dict[str, dict[str, str]] = PAGE_WORDS["pictures"]
EXPERIMENTS: dict[str, str] = PAGE_WORDS["experiments"]
# Of the paper, in the order shown; the other pictures stand beside tables.
FIGURES = tuple(key for key in PICTURES if key.startswith("figure"))


def write_page(record: Mapping[str, Any], folder: Path, stored: Path = STORED) -> list[Finding]:
    """Write `report.html` and `tables.md`, and return the findings.

    Args:
        record: from `bench.paper.record`.
        folder: for both; pictures are those of the keys of `PICTURES` that lie there as PNGs.
        stored: folder of the experiments' records and tables; what is missing there is not shown.
    """
    found = claims(record, stored)
    tables = [Table(**table) for table in record["layout"]]
    summary, *numbered, recalls = tables
    experiments = _experiments(stored)
    page = render_page(
        Path(__file__).with_suffix(".html"),
        title=PAGE_WORDS["title"],
        words=PAGE_WORDS,
        record=record,
        counted=count_verdicts(found),
        findings=found,
        summary=summary,
        numbered=numbered,
        recalls=recalls,
        experiments=experiments,
        not_run=NOT_RUN,
        figures=FIGURES,
        pictures=PICTURES,
        addresses={key: _address(folder / f"{key}.png") for key in PICTURES},
    )
    atomic_write_text(folder / "report.html", page)
    columns = ["finding", "paper", "ours", "verdict", "reason"]
    rows = [[item.claim, item.paper, item.ours, item.verdict, item.reason] for item in found]
    heading = f"Findings of the paper ({record['data']})"
    findings = Table("findings", heading, columns, rows, [count_verdicts(found)])
    everything = [findings, *tables, *experiments]
    atomic_write_text(folder / "tables.md", "\n".join(map(to_markdown, everything)))
    return found


def _experiments(stored: Path) -> list[Table]:
    """Read the tables of the experiments that are there; the first of each has the experiment's name as its key."""
    found: list[Table] = []
    for name in EXPERIMENTS:
        if (stored / f"{name}.md").exists():
            first, *others = from_markdown((stored / f"{name}.md").read_text())
            found += [replace(first, key=name), *others]
    return found


def _address(path: Path) -> str:
    """Return the address that holds a picture inside the page; empty if it was not drawn."""
    return data_address(path.read_bytes()) if path.exists() else ""
