"""What the report says of prompts: what calibration gave, and how far their templates lie apart.

In: arms of one task. Out: :class:`tofro.reports.layout.Table`. Leaves out how prompts compare with other methods (tables.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from tofro.reports import formats
from tofro.reports.arms import SEEDLESS, Arm, start_of, templates_of
from tofro.reports.cells import EMPTY, mean_cell, point_cells, slug
from tofro.reports.collect import RunRecord
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.layout import Cell, Column, Table
from tofro.tokens.settings import PromptSettings

DEFAULT = PromptSettings("").calibration  # a run's config holds what differs from it


def prompt_table(arms: Sequence[Arm]) -> Table | None:
    """Prompts on one task: score, the same before calibration, and every template's score by itself with their spread."""
    prompted = [arm for arm in arms if arm.method in SEEDLESS and arm.points(arm.score)]
    if not prompted:
        return None
    task, metric = prompted[0].task, parse_metric(prompted[0].score or "")
    heads = ("prompt", metric.split, "uncalibrated", "gain", "templates alone", "mean", "sd", "lowest to highest")
    columns = tuple(Column(head, head not in ("prompt", "templates alone")) for head in heads)
    kinds = {str(run.config.get("prompt.calibration", DEFAULT)) for arm in prompted for run in arm.runs}
    notes = [
        f"Calibration, where a row names none: {kinds.pop() if len(kinds) == 1 else DEFAULT}.",
        f"{metric.title} × 100. gain: what calibration adds to the same scores of the same run.",
        "Spread over templates, of each by itself and calibrated; sd: n − 1, within one model. No template was chosen by it.",
    ]
    return Table(f"prompts-{slug(task)}", f"Prompts on {task}", columns, tuple(map(_row, prompted)), tuple(notes))


def _row(arm: Arm) -> tuple[Cell, ...]:
    metric = parse_metric(arm.score or "")
    plain = f"{metric.split}/{metric.what}_uncalibrated_{metric.encoder}"
    pairs = [(run.metrics[plain], value) for run, value in arm.points(arm.score) if plain in run.metrics]
    named = [(name, run, value) for run in arm.runs for name, value in templates_of(run).items()]
    alone = [(run, value) for _, run, value in sorted(named, key=lambda each: (len(each[0]), each[0]))]  # template 9 before 10
    values = [value for _, value in alone]
    return (
        Cell(arm.label),
        mean_cell([value for _, value in arm.points(arm.score)], metric),
        mean_cell([before for before, _ in pairs], metric),
        mean_cell([after - before for before, after in pairs], metric, signed=True),
        point_cells(alone, metric),
        mean_cell(values, metric),
        _spread(alone, metric),
        Cell(formats.span(min(values), max(values), metric)) if len(values) > 1 else EMPTY,
    )


def _spread(alone: Sequence[tuple[RunRecord, float]], metric: Metric) -> Cell:
    """The standard deviation over templates, of several models the mean of theirs; nothing where one has a single template."""
    by_start: dict[str, list[float]] = {}
    for run, value in alone:
        by_start.setdefault(start_of(run), []).append(value)
    if min(map(len, by_start.values())) < 2:
        return EMPTY
    sd = math.fsum(map(stdev, by_start.values())) / len(by_start)
    return Cell(formats.measured(sd, metric), sd)
