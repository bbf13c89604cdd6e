"""One page with everything: whether the paper's findings hold, its tables and its figures, ours beside them.

The page is self-contained: pictures are inside it, and it loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sfxjax.files import atomic_write_text
from sfxjax.page import render_page
from sfxjax.screen.pictures import data_address

from .claims import claims, count_verdicts
from .findings import FAILS, HOLDS, NOT_TESTED, Finding
from .outlook import STORED
from .table_layout import NOT_RUN, Table, from_markdown, to_markdown

TITLE = "Weakly supervised classification of serial crystallography frames: the paper's tables and figures"
PAPER = "Xie, Liu et al., Optics Express 31(20):32909 (2023)"

# Title and what to see, by the names of the files; figures of the paper in the order shown.
FIGURES = {
    "figure5": (
        "A hit, a maybe and a miss",
        "What has to be told apart: a maybe's few spots hardly rise above the noise, and a miss has none.",
    ),
    "figure6": (
        "The central crop",
        "What the networks see of a frame: the crop has most of the spots at a seventh of the pixels.",
    ),
    "figure7": (
        "Global and local contrast normalisation",
        "The smooth background goes, spots of all heights stay, in units of their surroundings.",
    ),
    "figure8": (
        "Row-wise decompositions",
        "Spots stand out as peaks above a level that all frames share; the more peaks, the surer the hit. "
        "Peaks that all three have are of the detector, not of a crystal.",
    ),
    "figure9": (
        "Features of DANN and of the source-only CNN",
        "Adaptation here is not alignment: after DANN a linear classifier still tells the two sets apart by the "
        "features, as the numbers under the panels say. What DANN wins is recall, not features that overlap.",
    ),
    "figure10": (
        "Label and domain classifier by epoch",
        "Adaptation here is not alignment: the domain classifier near chance, while it trains, does not mean features "
        "that overlap, for a classifier trained afterwards tells the sets apart (Fig. 9).",
    ),
}
OVERVIEW, CURVES = "overview", "precision_recall"
PAGE_PICTURES = FIGURES | {
    OVERVIEW: (
        "All methods beside the paper",
        "Where a row has a diamond, the nearer the large dot, the better the paper's figure is met. Most rows of ours "
        "crowd near 97: what differs in the paper by tens of points differs here by one or two.",
    ),
    CURVES: (
        "Precision and recall of every method",
        "At the recall that an experiment asks for, read off the precision that a method leaves; dashed lines "
        "need no label of the tested set.",
    ),
}
# Experiments beside the paper's tables, by the name of their record.
EXPERIMENTS = {
    "plain": "A plain network",
    "alignment": "Alignment",
    "adaptation": "Adaptation",
    "ensemble": "Ensemble",
    "gan": "GAN",
    "particles": "Single particles",
}
SIMULATED_NOTE = (
    "These frames are simulated sets. They can show whether the methods do what the paper says of them, not whether its "
    "figures are right for the real sets. A simulated set's label is the number of its visible spots, which suits a spot counter "
    "better than an expert's opinion would; an expert's doubts, and drifts through a run, are not simulated."
)
QUICK_NOTE = (
    "Quick: fewer frames, epochs or pairs than the comparison asks for; of shorter sets, 1200 and 200 labels are 60 and 10 % of "
    "the frames."
)
# How the style sheet calls the verdicts.
VERDICT_CLASSES = {HOLDS: "holds", FAILS: "fails", NOT_TESTED: "none"}


class PagePicture(NamedTuple):
    """A picture, what to see in it, and the address that holds it inside the page; empty if it was not drawn."""

    title: str
    caption: str
    address: str


def write_page(record: Mapping[str, Any], folder: Path, stored: Path = STORED) -> list[Finding]:
    """Write `report.html` and `tables.md`, and return the findings.

    Args:
        record: from `bench.paper.record`.
        folder: for both; pictures are those of the keys of `PAGE_PICTURES` that lie there as PNGs.
        stored: folder of the experiments' records and tables; what is missing there is not shown.
    """
    found = claims(record, stored)
    tables = [Table(**table) for table in record["layout"]]
    summary, *numbered, recalls = tables
    experiments = _experiments(stored)
    figures = {key: key.replace("figure", "Fig. ") for key in FIGURES}
    contents = {"answer": "Does it reproduce?"}
    contents |= {each.key: each.key.replace("table", "Table ") for each in numbered}
    contents |= {recalls.key: "Fixed recall"} | figures
    contents |= {each.key: EXPERIMENTS[each.key] for each in experiments if each.key}
    contents |= {"made": "How it was made"}
    page = render_page(
        Path(__file__).with_suffix(".html"),
        title=TITLE,
        paper=PAPER,
        record=record,
        contents=contents.items(),
        counted=count_verdicts(found),
        findings=found,
        goals=[Finding(**goal) for goal in record["goals"]],
        verdict_classes=VERDICT_CLASSES,
        warnings=[SIMULATED_NOTE] * record["simulated"] + [QUICK_NOTE] * record["quick"],
        summary=summary,
        numbered=numbered,
        recalls=recalls,
        experiments=experiments,
        not_run=NOT_RUN,
        figures=figures,
        pictures=_pictures(folder),
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


def _pictures(folder: Path) -> dict[str, PagePicture]:
    found = {}
    for key, (title, caption) in PAGE_PICTURES.items():
        path = folder / f"{key}.png"
        found[key] = PagePicture(title, caption, data_address(path.read_bytes()) if path.exists() else "")
    return found
