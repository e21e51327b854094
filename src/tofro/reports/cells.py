"""Cells that several tables share: the points of some runs, their mean, nothing at all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tofro.reports import formats
from tofro.reports.collect import RunRecord
from tofro.reports.formats import MISSING, Metric
from tofro.reports.layout import Cell

SHOWN_POINTS = 10  # more points than this are shown as their range
EMPTY = Cell(MISSING)


def slug(name: str) -> str:
    """A task's name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "task"


def point_cells(found: Sequence[tuple[RunRecord, float]], metric: Metric, signed: bool = False) -> Cell:
    """The points of several runs, each leading to its run; many points as their range."""
    if not found:
        return EMPTY
    parts = [Cell(formats.measured(value, metric, signed), value, run.folder) for run, value in found]
    if len(parts) <= SHOWN_POINTS:
        return Cell.points(parts)
    values = [value for _, value in found]
    return Cell(formats.span(min(values), max(values), metric, signed), parts=tuple(parts))


def mean_cell(values: Sequence[float], metric: Metric, signed: bool = False, bold: bool = False) -> Cell:
    """The mean of some values, or that there are none."""
    if not values:
        return EMPTY
    mean = math.fsum(values) / len(values)
    return Cell(formats.measured(mean, metric, signed), mean, bold=bold)
