"""A table of texts, and how it is written and read as Markdown; `table.html` shows it on a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sfxjax.toml_files import read_toml

from ..experiments.record import markdown_table

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


def to_markdown(table: Table) -> str:
    """Write a table as Markdown, with its heading and notes."""
    sums = [[f"**{text}**" if text else "" for text in row] for row in table.rows[len(table.single_rows) :]]
    lines = [table.columns, *table.single_rows, *sums]
    columns, *rows = ([text.replace("|", "\\|") for text in line] for line in lines)
    return "\n\n".join([f"### {table.heading}", markdown_table(columns, rows), *table.notes]) + "\n"


def from_markdown(text: str) -> list[Table]:
    """Read the tables of a page that an experiment wrote: a heading in bold letters stands above the first.

    Those without a heading of their own have an empty one.
    """
    tables: list[Table] = []
    heading = ""
    for block in text.strip().split("\n\n"):
        if block.startswith("**"):
            heading = block.replace("**", "")
        elif block.startswith("|"):
            lines = ([cell.strip() for cell in line.strip("|").split(" |")] for line in block.splitlines())
            columns, _, *rows = lines
            tables.append(Table("", heading, columns, rows))
            heading = ""
    return tables
