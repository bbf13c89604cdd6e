"""One page with everything: whether the paper's findings hold, its tables and its figures, ours beside them.

The page is self-contained: pictures are inside it, and it loads nothing.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfxjax.files import atomic_write_text
from sfxjax.screen.pictures import data_address

from .claims import claims, count_verdicts
from .findings import FAILS, HOLDS, Finding
from .outlook import STORED
from .table_layout import Table, from_markdown, to_html, to_markdown

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
    experiments = {
        name: from_markdown((stored / f"{name}.md").read_text())
        for name in EXPERIMENTS
        if (stored / f"{name}.md").exists()
    }
    data = record["data"]
    # Key, title in the contents, and HTML of each section.
    sections = [("answer", "Does it reproduce?", _summary(record, found, summary, folder))]
    sections += [(each.key, each.key.replace("table", "Table "), to_html(each)) for each in numbered]
    sections.append((recalls.key, "Fixed recall", to_html(recalls) + _picture(CURVES, folder)))
    for key, (title, _) in FIGURES.items():
        short = key.replace("figure", "Fig. ")
        sections.append((key, short, _heading(key, f"{short}. {title} ({data})") + _picture(key, folder)))
    for name, (first, *others) in experiments.items():
        body = "\n".join(map(to_html, [replace(first, key=name), *others]))
        sections.append((name, EXPERIMENTS[name], body))
    made = "".join(f"<p>{html.escape(line)}</p>" for line in record["notes"])
    sections.append(("made", "How it was made", _heading("made", "How it was made") + made))
    page = _PAGE.format(
        title=html.escape(TITLE),
        data=html.escape(data),
        paper=html.escape(PAPER),
        contents=" · ".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, title, _ in sections),
        body="\n".join(content for _, _, content in sections),
    )
    atomic_write_text(folder / "report.html", page)
    columns = ["finding", "paper", "ours", "verdict", "reason"]
    rows = [[item.claim, item.paper, item.ours, item.verdict, item.reason] for item in found]
    findings = Table("findings", f"Findings of the paper ({data})", columns, rows, [count_verdicts(found)])
    everything = [findings, *tables, *itertools.chain(*experiments.values())]
    atomic_write_text(folder / "tables.md", "\n".join(map(to_markdown, everything)))
    return found


def _summary(record: Mapping[str, Any], found: Sequence[Finding], summary: Table, folder: Path) -> str:
    over = ""
    if record["seeds"] > 1:
        over = f" Means over sets, pairs and {record['seeds']} seeds, ± the standard deviation over seeds."
    warnings = [SIMULATED_NOTE] * record["simulated"] + [QUICK_NOTE] * record["quick"]
    return "\n".join(
        [
            _heading("answer", f"Does it reproduce? ({record['data']})"),
            f"<p>{html.escape(count_verdicts(found))} Adaptation here is not alignment (Figs. 9 and 10).</p>",
            "<p>Recall on hits and maybes, %, on the last fifth of each set (frames 1601-2000), which no network was trained "
            f"or validated on, unless a line says otherwise.{over} The paper's figures are the same means of its tables, on "
            "CXIDB 76 and the frames it tested.</p>",
            _findings_html("finding", found),
            "<p>Balanced accuracy this project set itself to reach, %:</p>",
            _findings_html("goal", [Finding(**goal) for goal in record["goals"]]),
            *([f"<p>{html.escape(record['counter'])}</p>"] if record["counter"] else []),
            *(f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings),
            to_html(summary),
            _picture(OVERVIEW, folder),
        ]
    )


def _heading(key: str, text: str) -> str:
    return f'<h2 id="{key}">{html.escape(text)}</h2>'


def _findings_html(title: str, found: Sequence[Finding]) -> str:
    classes = {HOLDS: "holds", FAILS: "fails"}

    def row(item: Finding) -> str:
        verdict = f'<td class="{classes.get(item.verdict, "none")}">{html.escape(item.verdict)}</td>'
        cells = [f"<td>{html.escape(text)}</td>" for text in (item.claim, item.paper, item.ours, item.reason)]
        return f"<tr>{cells[0]}{verdict}{''.join(cells[1:])}</tr>"

    head = f"<tr><th>{title}</th><th></th><th>paper</th><th>ours</th><th>why</th></tr>"
    body = "".join(map(row, found))
    return f'<div class="wide"><table class="text"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _picture(key: str, folder: Path) -> str:
    title, caption = map(html.escape, PAGE_PICTURES[key])
    path = folder / f"{key}.png"
    if not path.exists():
        return f'<p class="none">{title}: not drawn.</p>'
    image = f'<img src="{data_address(path.read_bytes())}" alt="{title}">'
    return f'<p class="caption">{caption}</p><div class="wide">{image}</div>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1240px; padding: 0 1em; color: #222;
  background: #fff; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.15em; margin-top: 2.2em; }}
nav {{ background: #f2f2f2; padding: .5em 1em; }} a {{ color: #14508c; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92em; }}
th, td {{ padding: .2em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #e2e2e2; }}
th {{ border-bottom: 1px solid #888; vertical-align: bottom; white-space: normal; }}
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2), .text th, .text td {{ text-align: left; }}
.text td {{ white-space: normal; vertical-align: top; min-width: 11em; }}
.text td:nth-child(2) {{ white-space: nowrap; min-width: 0; }}
.sum td {{ font-weight: 600; background: #f7f7f7; }}
.none {{ color: #999; }} .holds {{ color: #1d7a36; font-weight: 600; }} .fails {{ color: #b3261e; font-weight: 600; }}
.note {{ color: #555; font-size: .92em; margin: .3em 0; max-width: 75em; }}
.warning {{ background: #fff3cd; border-left: 4px solid #d39e00; padding: .5em 1em; }}
img {{ max-width: 100%; min-width: 760px; }} .caption {{ max-width: 75em; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>Ours: {data}. The paper: {paper}.</p>
<nav>{contents}</nav>
{body}
</body>
</html>
"""
