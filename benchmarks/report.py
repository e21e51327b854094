"""What a benchmark says: rows, shown as a table, written as JSON and as Markdown.

In: :class:`Row`. Out: a terminal table, ``outputs/bench.json``, a Markdown table with machine and versions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.timing import ratios, spread
from tofro.runs.folder import git_commit, machine, versions, write_json

COLUMNS = ("benchmark", "case", "tofro", "peer", "result", "low to high", "goal", "reached")
MARKS = ("<!-- written by python -m benchmarks -->", "<!-- end of what python -m benchmarks writes -->")
PEERS = ("transformers", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True)
class Row:
    """One measured number. ``value`` None means skipped, with the reason in ``note``; ``goal`` may be absent."""

    benchmark: str
    case: str
    value: float | None
    unit: str = "×"
    low: float | None = None
    high: float | None = None
    goal: float | None = None
    at_most: bool = False  # the goal is an upper bound
    ours: str = ""
    peer: str = ""
    note: str = ""
    rounds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is no goal or no number."""
        if self.value is None or self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of :data:`COLUMNS`."""
        result = "skipped" if self.value is None else number(self.value, self.unit)
        span = "" if self.low is None or self.high is None else f"{number(self.low, '')} to {number(self.high, '')}"
        goal = "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {self.goal:g}{self.unit}"
        reached = {None: "", True: "yes", False: "no"}[self.reached]
        return self.benchmark, self.case, self.ours, self.peer, result, span, goal, reached


def speed_row(
    benchmark: str, case: str, rates: dict[str, list[float]], goal: float | None, note: str, percent: bool = False
) -> Row:
    """Return the row of a comparison: the first of ``rates`` against the second, median and spread over rounds of their ratio."""
    ours, theirs = rates.values()
    value, low, high = (ratio * (100 if percent else 1) for ratio in ratios(ours, theirs))
    medians = (number(spread(each)[0], "") for each in (ours, theirs))
    return Row(benchmark, case, value, "%" if percent else "×", low, high, goal, False, *medians, note, rates)


def number(value: float, unit: str) -> str:
    """Return a number with as many digits as mean something, and its unit."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 20 else 2
    return f"{value:,.{digits}f}{unit}"


def surroundings() -> dict[str, Any]:
    """Return machine, versions, threads and commit."""
    found = versions()
    for package in PEERS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    place = machine() | {"threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        place["gpu"] = torch.cuda.get_device_name()
    return {"machine": place, "versions": found, "git": git_commit()}


def show(rows: list[Row]) -> None:
    """Print the table, and below it what the rows note."""
    table = Table(*COLUMNS, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row.cells())
    console = Console()
    console = console if console.is_terminal else Console(width=130)
    console.print(table, "")
    for note in dict.fromkeys(f"{row.benchmark}, {row.case}: {row.note}" for row in rows if row.note):
        console.print(note, highlight=False, markup=False)


def write(rows: list[Row], settings: dict[str, Any], path: Path) -> None:
    """Write all numbers as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**surroundings(), "settings": settings, "rows": [asdict(row) | {"reached": row.reached} for row in rows]})


def write_markdown(rows: list[Row], settings: dict[str, Any], path: Path) -> None:
    """Write the table as Markdown with machine, versions and notes: between :data:`MARKS` of a file that has them, else alone."""
    text = markdown(rows, settings)
    if path.exists() and all(mark in path.read_text(encoding="utf-8") for mark in MARKS):
        before, rest = path.read_text(encoding="utf-8").split(MARKS[0], 1)
        text = f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{rest.split(MARKS[1], 1)[1]}"
    path.write_text(text, encoding="utf-8")


def markdown(rows: list[Row], settings: dict[str, Any]) -> str:
    """Return the table with what it was measured on."""
    around = surroundings()
    place, found = around["machine"], around["versions"]
    processor = " and ".join(name for name in (place.get("gpu"), place["cpu"]) if name)
    lines = [
        f"{processor}, {place['cores']} cores, {place['threads']} torch threads. "
        + ", ".join(f"{name} {version}" for name, version in found.items())
        + f". Commit {(around['git'] or 'unknown')[:10]}. "
        + ", ".join(f"{name} {value}" for name, value in settings.items())
        + ".",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|:--|:--|--:|--:|--:|--:|--:|:--|",
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
        "",
        *(f"- {row.benchmark}, {row.case}: {row.note}" for row in rows if row.note),
    ]
    return "\n".join(lines) + "\n"
