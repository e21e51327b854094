"""The report over runs: tables in the terminal and, where asked for, a page, LaTeX, CSV, Markdown, figures, a paper's two files.

In: run folders or folders of runs. Out: :class:`Report`, and the files. Reads result files only; torch is never imported,
matplotlib only for the page and the figures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tofro.reports.collect import Collection, collect
from tofro.reports.layout import Table, escape_markdown, to_csv, to_latex, to_markdown, to_rich
from tofro.reports.overview import overview_table
from tofro.reports.tables import all_tables, run_table
from tofro.reports.variants import name_variants
from tofro.reports.verdict import Verdict, judge

if TYPE_CHECKING:
    from tofro.reports.drawing import Figure

MARKS = {True: "✓ ", False: "✗ ", None: ""}  # of a clause that holds, fails, is not judged


@dataclass(frozen=True)
class Report:
    """What was read, what it came to, and the files written."""

    collection: Collection
    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...]
    written: tuple[Path, ...] = ()

    @property
    def markdown(self) -> str:
        """Every table and verdict as Markdown."""
        verdicts = [_verdict_markdown(one) for one in self.verdicts]
        return "\n".join([*verdicts, *map(to_markdown, self.tables)])

    @property
    def latex(self) -> str:
        """Every table as LaTeX."""
        return "\n".join(map(to_latex, self.tables))


def report(
    folders: Sequence[Path],
    html: Path | None = None,
    latex: Path | None = None,
    csv: Path | None = None,
    console: Console | None = None,
    markdown: Path | None = None,
    figures: Path | None = None,
    paper: Path | None = None,
) -> Report:
    """Print the tables of the runs under ``folders`` and write what is asked for.

    ``html``, ``latex`` and ``markdown`` are files; ``csv`` is a folder that gets a file per table, ``figures`` one that gets each
    figure as SVG, PDF and CSV, ``paper`` one that gets ``table.tex`` and ``figure.pdf``. ``console`` is where tables are
    printed; give a quiet one to print nothing. Raises ValueError that names the file where something can't be read.
    """
    for name, place in (("csv", csv), ("figures", figures), ("paper", paper)):
        if place is not None and place.is_file():
            raise ValueError(f"{place}: is a file; --{name} names a folder, which gets several files")
    collection = collect(folders)
    collection = replace(collection, runs=name_variants(collection.runs))
    tables = tuple(all_tables(collection))
    verdicts = tuple(judge(collection.runs))
    made = Report(collection, tables, verdicts)
    show(made, console or Console())
    files: dict[Path, str | bytes] = {}
    if html is not None:
        files[html] = _page(made, html.parent)
    if latex is not None:
        files[latex] = made.latex
    if markdown is not None:
        files[markdown] = made.markdown
    if csv is not None:
        files |= {csv / f"{table.name}.csv": to_csv(table) for table in (*tables, run_table(collection))}
    if figures is not None:
        files |= _figure_files(made, figures)
    if paper is not None:
        files |= _paper_files(made, paper)
    for path, content in files.items():
        _write(path, content)
    return Report(collection, tables, verdicts, tuple(files))


def _verdict_markdown(verdict: Verdict) -> str:
    head = f"Flow-back, {escape_markdown(verdict.about)}: **{verdict.word}**. {escape_markdown(verdict.sentence)}"
    clauses = [f"- {MARKS[clause.holds]}{escape_markdown(f'{clause.claim}: {clause.reading}')}" for clause in verdict.clauses]
    notes = [line for note in verdict.notes for line in ("", escape_markdown(note))]
    return "\n".join([head, "", *clauses, *notes]) + "\n"


def show(made: Report, console: Console) -> None:
    """Print titles, verdicts and tables; names are text, never markup."""
    for study in made.collection.studies:
        console.print(Text(study.title, style="bold underline"))
        if study.claim:
            console.print(Text(study.claim))
        console.print()
    for table in made.tables:
        console.print(to_rich(table))
        console.print()
    for verdict in made.verdicts:
        console.print(Text.assemble((f"Flow-back, {verdict.about}: {verdict.word}. ", "bold"), verdict.sentence))
        for clause in verdict.clauses:
            console.print(Text(f"  {MARKS[clause.holds]}{clause.claim}: {clause.reading}", style="dim"))
        for note in verdict.notes:
            console.print(Text(f"  {note}", style="dim"))
        console.print()
    for note in made.collection.notes:
        console.print(Text(note, style="dim"))
    for run in made.collection.unfinished:
        console.print(Text(f"unfinished: {run.folder}", style="yellow"))


def _page(made: Report, folder: Path) -> str:
    from tofro.reports.page import render_page

    return render_page(made.collection, made.tables, made.verdicts, _drawn(made.collection), run_table(made.collection), folder)


def _drawn(collection: Collection) -> list[Figure]:
    from tofro.reports.figures import all_figures
    from tofro.reports.stream_figure import stream_figures

    return [*all_figures(collection), *stream_figures(collection)]


def _figure_files(made: Report, folder: Path) -> dict[Path, str | bytes]:
    """Every figure of the page, thrice."""
    files: dict[Path, str | bytes] = {}
    for figure in _drawn(made.collection):
        files |= {folder / f"{figure.name}.{kind}": getattr(figure, kind) for kind in ("svg", "pdf", "csv")}
    return files


def _paper_files(made: Report, folder: Path) -> dict[Path, str | bytes]:
    """What a paper takes in: one table, one figure, and the figure's data."""
    from tofro.reports.figures import paper_figure

    table, figure = overview_table(made.collection), paper_figure(made.collection)
    if table is None or figure is None:
        raise ValueError("--paper: no run here has a score on a task; give a folder of runs that fine-tune or prompt")
    return {folder / "table.tex": to_latex(table), folder / "figure.pdf": figure.pdf, folder / "figure.csv": figure.csv}


def _write(path: Path, content: str | bytes) -> None:
    """Write through a sibling, so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_current(page: Path) -> bool:
    """Say whether a page was written after every result in the folders beside it, so that a new one would be the same."""
    if not page.exists():
        return False
    written = page.stat().st_mtime_ns
    return all(result.stat().st_mtime_ns <= written for result in page.parent.glob("*/result.json"))
