"""One page with everything: whether the paper's findings hold, its tables and its figures, ours beside them.

The page is self-contained: pictures are inside it, and it loads nothing.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfxjax.files import atomic_write_text
from sfxjax.screen.pictures import data_address

from .findings import FAILS, HOLDS, Finding, findings, goals, spot_counter_line
from .runs import TrainedRun, check_runs
from .table_layout import Row, Table, to_html
from .tables import TABLES, describe, measured_table, paper_table, recall_table, summary_table

TITLE = "Weakly supervised classification of serial crystallography frames: the paper's tables and figures"
PAPER = "Xie, Liu et al., Optics Express 31(20):32909 (2023)"

# In the order shown; the keys are also the names of the files.
FIGURES = {
    "figure5": "A hit, a maybe and a miss",
    "figure6": "The central crop",
    "figure7": "Global and local contrast normalisation",
    "figure8": "Row-wise decompositions",
    "figure9": "Features of DANN and of the source-only CNN",
    "figure10": "Label and domain classifier by epoch",
}
OVERVIEW, CURVES = "overview", "precision_recall"

SIMULATED_NOTE = (
    "These frames are simulated sets. They can show whether the methods do what the paper says of them, not whether its "
    "figures are right for the real sets. A simulated set's label is the number of its visible spots, which suits a spot counter "
    "better than an expert's opinion would; an expert's doubts, and drifts through a run, are not simulated."
)


def write_paper(
    path: str | Path,
    runs: Sequence[TrainedRun],
    *,
    figures: Mapping[str, Path] | None = None,
    measured: Mapping[str, Any] | None = None,
    rows: Mapping[int, Sequence[Row]] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        runs: all there are.
        figures: PNGs by the keys of `FIGURES`, and OVERVIEW and CURVES; what is missing is said to be.
        measured: see `bench.paper.tables.measured_table`.
        rows: of tables, from `table_rows`, if they are at hand.
        notes: lines on how it was made: the command, the device, the time it took.

    Raises:
        UserError: the runs cannot stand in one table.
    """
    check_runs(runs)
    figures, rows = figures or {}, rows or {}
    tables = {number: paper_table(number, runs, rows.get(number)) for number in TABLES}
    sections = [_answer(runs, figures)]
    for number in (1, 2, 3, 4, 5, 6, 7):
        table = measured_table(measured or {}, runs) if number == 6 else tables[number]
        sections.append((table.key, f"Table {number}", to_html(table)))
    recalls = recall_table(runs)
    picture = _figure(CURVES, "Precision and recall of every method", figures)
    sections.append((recalls.key, "Fixed recall", to_html(recalls) + picture))
    data = describe(runs)
    for key, title in FIGURES.items():
        short = f"Fig. {key.removeprefix('figure')}"
        heading = f'<h2 id="{key}">{short}. {html.escape(title)} ({html.escape(data)})</h2>'
        sections.append((key, short, heading + _figure(key, title, figures)))
    sections.append(("made", "How it was made", _made(runs, tables, notes)))
    contents = " · ".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, title, _ in sections)
    body = "\n".join(content for _, _, content in sections)
    page = _PAGE.format(
        title=html.escape(TITLE),
        data=html.escape(data),
        paper=html.escape(PAPER),
        contents=contents,
        body=body,
    )
    atomic_write_text(path, page)


def _answer(runs: Sequence[TrainedRun], figures: Mapping[str, Path]) -> tuple[str, str, str]:
    seeds = len({run.seed for run in runs if run.method != "spot_counter"})
    over = (
        f" Means over sets, pairs and {seeds} seeds, ± the standard deviation over seeds."
        if seeds > 1
        else ""
    )
    lines = [
        f'<h2 id="answer">Does it reproduce? ({html.escape(describe(runs))})</h2>',
        "<p>Recall on hits and maybes, %, on the last fifth of each set (frames 1601-2000), which no network was trained or "
        f"validated on.{over} The paper's figures are the same means of its tables, on CXIDB 76 and the frames it tested.</p>",
        _findings_html("finding", findings(runs)),
        "<p>Balanced accuracy this project set itself to reach, %:</p>",
        _findings_html("goal", goals(runs)),
    ]
    counter = spot_counter_line(runs)
    if counter:
        lines.append(f"<p>{html.escape(counter)}</p>")
    if any(run.simulated for run in runs):
        lines.append(f'<p class="warning">{html.escape(SIMULATED_NOTE)}</p>')
    if any(run.quick for run in runs):
        lines.append(
            '<p class="warning">Quick: fewer frames, epochs or pairs than the comparison asks for; of shorter '
            "sets, 1200 and 200 labels are 60 and 10 % of the frames.</p>"
        )
    lines.append(to_html(summary_table(runs)))
    lines.append(_figure(OVERVIEW, "All methods beside the paper", figures))
    return "answer", "Does it reproduce?", "\n".join(lines)


def _findings_html(title: str, found: Sequence[Finding]) -> str:
    classes = {HOLDS: "holds", FAILS: "fails"}
    rows = "".join(
        f"<tr><td>{html.escape(item.claim)}</td><td>{html.escape(item.paper)}</td><td>{html.escape(item.ours)}</td>"
        f'<td class="{classes.get(item.verdict, "none")}">{html.escape(item.verdict)}</td></tr>'
        for item in found
    )
    head = f"<tr><th>{title}</th><th>paper</th><th>ours</th><th></th></tr>"
    return f'<div class="wide"><table class="text"><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _figure(key: str, title: str, figures: Mapping[str, Path]) -> str:
    if key not in figures:
        return f'<p class="none">{html.escape(title)}: not drawn.</p>'
    address = data_address(Path(figures[key]).read_bytes())
    return f'<img src="{address}" alt="{html.escape(title)}">'


def _made(runs: Sequence[TrainedRun], tables: Mapping[int, Table], notes: Sequence[str]) -> str:
    by_method: dict[str, list[TrainedRun]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    lines = [
        f"{len(some)} of {method}, seeds {', '.join(map(str, sorted({run.seed for run in some})))}"
        for method, some in by_method.items()
    ]
    devices = sorted({str(run.record["device"]) for run in runs if run.record.get("device")})
    versions = sorted({str(run.record["jax"]) for run in runs if run.record.get("jax")})
    missing = {
        number: sum(row[4] == "not run" for row in table.rows[: len(table.rows) - table.summaries])
        for number, table in tables.items()
    }
    told = [f"Runs: {'; '.join(lines) or 'none'}."]
    if devices:
        told.append(f"Devices: {', '.join(devices)}; jax {', '.join(versions)}.")
    empty = [f"{count} of Table {number}" for number, count in missing.items() if count]
    told.append(f"Cells not run: {', '.join(empty)}." if empty else "Every cell was run.")
    body = "".join(f"<p>{html.escape(line)}</p>" for line in [*notes, *told])
    return f'<h2 id="made">How it was made</h2>{body}'


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
.text td {{ white-space: normal; vertical-align: top; }} .text td:last-child {{ white-space: nowrap; }}
.sum td {{ font-weight: 600; background: #f7f7f7; }}
.none {{ color: #999; }} .holds {{ color: #1d7a36; font-weight: 600; }} .fails {{ color: #b3261e; font-weight: 600; }}
.note {{ color: #555; font-size: .92em; margin: .3em 0; max-width: 75em; }}
.warning {{ background: #fff3cd; border-left: 4px solid #d39e00; padding: .5em 1em; }}
img {{ max-width: 100%; margin-top: .8em; }}
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
