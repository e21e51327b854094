"""A table as data, and its four written forms: terminal, Markdown, CSV, LaTeX (the page's template is the fifth).

In: :class:`Table`, made in ``tables.py`` and ``encoder_tables.py``. Out: a rich renderable or a string. Every form escapes what
it must: a run's name is data.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column's head; numbers stand at the right."""

    title: str
    right: bool = True


@dataclass(frozen=True)
class Cell:
    """What is read (``text``), the number behind it, the run it comes from; ``parts`` are the cell's points, one per run."""

    text: str
    number: float | None = None
    run: Path | None = None
    parts: tuple[Cell, ...] = ()
    bold: bool = False

    @staticmethod
    def points(parts: list[Cell]) -> Cell:
        """One cell for the points of several runs."""
        return Cell("  ".join(part.text for part in parts), parts=tuple(parts))

    @property
    def raw(self) -> str:
        """The number at full precision, for CSV; else the text."""
        if self.parts:
            return " ".join(part.raw for part in self.parts)
        return self.text if self.number is None else repr(self.number)


@dataclass(frozen=True)
class Table:
    """Rows of cells below columns. ``name`` is a file name without ending; ``faint`` rows are floors or remarks."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    faint: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), f"ragged rows in {self.name}"


def to_rich(table: Table) -> Group:
    """The table for a terminal, with title and notes; names are text, never markup."""
    drawn = RichTable(box=None, header_style="dim", padding=(0, 1), pad_edge=False)
    for index, column in enumerate(table.columns):
        drawn.add_column(Text(column.title), justify="right" if column.right else "left", no_wrap=column.right and index > 0)
    for index, row in enumerate(table.rows):
        drawn.add_row(
            *(Text(cell.text, style="bold" if cell.bold else "") for cell in row), style="dim" if index in table.faint else None
        )
    return Group(Text(table.title, style="bold"), drawn, *(Text(note, style="dim") for note in table.notes))


def to_markdown(table: Table) -> str:
    """A GitHub table below a heading."""

    def line(texts: list[str]) -> str:
        return "| " + " | ".join(escape_markdown(text) for text in texts) + " |"

    body = [line([f"**{cell.text}**" if cell.bold else cell.text for cell in row]) for row in table.rows]
    rule = "|" + "|".join("---:" if column.right else ":---" for column in table.columns) + "|"
    head = [f"**{escape_markdown(table.title)}**", "", line([column.title for column in table.columns]), rule]
    notes = ["", *(f"{escape_markdown(note)}  " for note in table.notes)] if table.notes else []
    return "\n".join([*head, *body, *notes]) + "\n"


def escape_markdown(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("\n", " ")):
        text = text.replace(plain, escaped)
    return text


def to_csv(table: Table) -> str:
    """Heads and rows with numbers at full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.title for column in table.columns])
    writer.writerows([[cell.raw for cell in row] for row in table.rows])
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    """A floating table with booktabs rules; needs ``\\usepackage{booktabs}``."""

    def line(texts: list[str]) -> str:
        return "    " + " & ".join(texts) + r" \\"

    body = [line([rf"\textbf{{{_latex(cell.text)}}}" if cell.bold else _latex(cell.text) for cell in row]) for row in table.rows]
    spec = "".join("r" if column.right else "l" for column in table.columns)
    notes = " ".join(_latex(note) for note in table.notes)
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{_latex(table.title)}. {notes}}}" if notes else rf"  \caption{{{_latex(table.title)}}}",
                rf"  \label{{tab:{table.name}}}",
                rf"  \begin{{tabular}}{{@{{}}{spec}@{{}}}}",
                r"    \toprule",
                line([_latex(column.title) for column in table.columns]),
                r"    \midrule",
                *body,
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
            ]
        )
        + "\n"
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "λ": r"$\lambda$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "\n": " ",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
