"""A table of texts, and how it is written and read as Markdown; `table.html` shows it on a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sfxjax.toml_files import read_toml

NOT_RUN = "not run"
# What the page says around its figures, see there.
PAGE_WORDS = read_toml(Path(__file__).with_name("page.toml"))


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
