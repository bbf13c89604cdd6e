"""A table as text: Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

NOT_RUN = "not run"


@dataclass(frozen=True)
class Table:
    """A table to be read.

    Attributes:
        key: `table1` and the like.
        heading: what it is, and of which data.
        columns: their headings.
        rows: texts, one a column.
        notes: below the table.
        summaries: how many rows at the end sum up the others.
    """

    key: str
    heading: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    summaries: int = 0

    @property
    def single_rows(self) -> list[list[str]]:
        """The rows above those that sum up."""
        return self.rows[: len(self.rows) - self.summaries]

    @property
    def summary_rows(self) -> list[list[str]]:
        """The rows that sum up."""
        return self.rows[len(self.rows) - self.summaries :]


def to_markdown(table: Table) -> str:
    """Write a table as Markdown, with its heading and notes."""

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

    lines = [f"### {table.heading}", "", line(table.columns), line("---" for _ in table.columns)]
    lines += map(line, table.single_rows)
    lines += [line(f"**{text}**" if text else "" for text in row) for row in table.summary_rows]
    for note in table.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """Write a table as HTML, with its heading, which has the table's key as its id, and notes."""

    def line(texts: Sequence[str], tag: str) -> str:
        kinds = [' class="none"' if text == NOT_RUN else "" for text in texts]
        pairs = zip(texts, kinds, strict=True)
        return "".join(f"<{tag}{kind}>{html.escape(text)}</{tag}>" for text, kind in pairs)

    mark = f' id="{html.escape(table.key)}"' if table.key else ""
    return "\n".join(
        [
            f"<h2{mark}>{html.escape(table.heading)}</h2>" if table.heading else "",
            f'<div class="wide"><table><thead><tr>{line(table.columns, "th")}</tr></thead>',
            "<tbody>",
            *(f"<tr>{line(row, 'td')}</tr>" for row in table.single_rows),
            *(f'<tr class="sum">{line(row, "td")}</tr>' for row in table.summary_rows),
            "</tbody></table></div>",
            *(f'<p class="note">{html.escape(note)}</p>' for note in table.notes),
        ]
    )


def from_markdown(text: str) -> list[Table]:
    """Read the tables of a page that an experiment wrote: a heading in bold letters stands above the first.

    Those without a heading of their own have an empty one.
    """
    tables: list[Table] = []
    heading, open_table = "", False
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split(" |")]
            if not open_table:
                tables.append(Table("", heading, cells, []))
                heading, open_table = "", True
            elif set(cells) != {"---"}:
                tables[-1].rows.append(cells)
        else:
            open_table = False
            if line.startswith("**"):
                heading = line.replace("**", "")
    return tables
