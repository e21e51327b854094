"""The table that a paper shows: methods × tasks, each score with its interval and beside it the paired difference to `full`.

In: a collection. Out: one :class:`~tofro.reports.layout.Table`. An interval stands where eight runs or pairs give one; bold is a
difference whose interval excludes 0, and nothing else. What a method cost and every seed's point are in ``tables.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tofro.reports import formats
from tofro.reports.arms import (
    FLOORS,
    SEEDLESS,
    Arm,
    arms_of,
    comparable,
    compare_runs,
    differences,
    floors_of,
    reference_arm,
    tasks_of,
)
from tofro.reports.cells import EMPTY, mean_cell
from tofro.reports.collect import Collection, RunRecord
from tofro.reports.formats import MISSING, Metric, parse_metric
from tofro.reports.layout import Cell, Column, Table
from tofro.reports.statistics import SMALLEST_PAIRS


def overview_table(collection: Collection) -> Table | None:
    """Rows: every arm of any task, floors last. Columns: for each task its score and, where `full` was run, the difference."""
    columns, parts, notes = [Column("method", False)], [], []
    for task in tasks_of(collection.runs):
        arms = comparable(arms_of(collection.runs, task))
        if not arms:
            continue
        reference = reference_arm(arms)
        metric = parse_metric(arms[0].score or "")
        columns.append(Column(task))
        notes.append(f"{task}: {metric.split} {metric.title}{'' if metric.is_loss else ' × 100'}.")
        if reference is not None:
            columns.append(Column(f"− {reference.label}"))
        parts.append((reference is not None, _cells(arms, reference, metric)))
    labels = {label: faint for _, cells in parts for label, (faint, _) in cells.items()}
    order = sorted(labels, key=lambda label: labels[label])  # stable: floors last, else as the tasks have them
    rows = []
    for label in order:
        row = [Cell(label)]
        for has_reference, cells in parts:
            row += cells[label][1] if label in cells else [EMPTY] * (1 + has_reference)
        rows.append(tuple(row))
    if not rows:
        return None
    notes.append(f"Means over runs; in brackets 95% intervals, from {SMALLEST_PAIRS} runs or pairs on.")
    if any(has_reference for has_reference, _ in parts):
        notes.append("Differences are paired by seed; bold where the interval excludes 0.")
    faint = frozenset(index for index, label in enumerate(order) if labels[label])
    return Table("overview", "Methods and tasks", tuple(columns), tuple(rows), tuple(notes), faint)


def _cells(arms: Sequence[Arm], reference: Arm | None, metric: Metric) -> dict[str, tuple[bool, list[Cell]]]:
    """One task's cells by the row's label, and whether the row is a floor."""
    found: dict[str, tuple[bool, list[Cell]]] = {}
    for arm in arms:
        cells = [_score(arm.points(arm.score), metric, arm.method not in SEEDLESS)]
        if reference is not None:
            cells.append(EMPTY if arm is reference else _difference(arm, reference, metric))
        found[_row(arm)] = (arm.method in FLOORS, cells)
    for floor, points in floors_of(arms).items():
        found.setdefault(FLOORS[floor], (True, [_score(points, metric, True)] + [EMPTY] * (reference is not None)))
    return found


def _row(arm: Arm) -> str:
    """Return what a row is called on every task: how many templates there are is a task's own."""
    return arm.key if arm.method in SEEDLESS else arm.label


def _score(points: Sequence[tuple[RunRecord, float]], metric: Metric, seeded: bool) -> Cell:
    one = compare_runs(points, metric) if seeded else None
    cell = mean_cell([value for _, value in points], metric)
    if one is None or one.interval is None or one.sd == 0:
        return cell
    return Cell(f"{cell.text} ({formats.span(one.interval.low, one.interval.high, metric)})", cell.number)


def _difference(arm: Arm, reference: Arm, metric: Metric) -> Cell:
    found = differences(arm, reference)
    if not found:
        return Cell(MISSING)
    one = compare_runs(found, metric)
    text = formats.measured(one.mean, metric, True)
    if one.interval is not None:
        text += f" ({formats.span(one.interval.low, one.interval.high, metric, True)})"
    return Cell(text, one.mean, bold=one.interval is not None and one.interval.excludes(0))
