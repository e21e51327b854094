"""What the report's tables about streams hold: a matrix per arm, transfer and forgetting, differences to `full`, the language,
trained scores.

In: a collection. Out: :class:`tofro.reports.layout.Table`. The numbers are measures/continual.py's, their matrices come from
continual.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tofro.measures.continual import average_score, backward_transfer, forgetting, forward_transfer, gain
from tofro.reports import formats
from tofro.reports.cells import EMPTY, mean_cell, point_cells, slug
from tofro.reports.collect import Collection
from tofro.reports.continual import Line, Stream, StreamArm, mean_of, streams_of
from tofro.reports.formats import Metric
from tofro.reports.layout import Cell, Column, Table
from tofro.reports.statistics import SMALLEST_PAIRS, Comparison, compare, holm

PROBE = Metric("test", "probe_", "")
LANGUAGE = Metric("validation", "mlm_loss", "")


@dataclass(frozen=True)
class Measure:
    """A number of a matrix; ``signed`` ones are differences, and those may be told apart from 0."""

    name: str
    compute: Callable[[Line], float]
    signed: bool = True
    compared: bool = True  # with `full`; pairs of one start differ in the others by the same as in one that is compared
    lower_is_better: bool = False


MEASURES = (
    Measure("average at the end", lambda line: average_score(line.matrix), signed=False, compared=False),
    Measure("gain over pretraining", lambda line: gain(line.matrix)),
    Measure("backward transfer", lambda line: backward_transfer(line.matrix)),
    Measure("forward transfer, over pretraining", lambda line: forward_transfer(line.matrix)),
    Measure("forward transfer, over a random encoder", lambda line: forward_transfer(line.matrix, line.baseline), compared=False),
    Measure("forgetting", lambda line: forgetting(line.matrix), lower_is_better=True),
)


def stream_tables(collection: Collection) -> list[Table]:
    """Every table about every stream, in the order of reading."""
    tables: list[Table | None] = []
    for stream in streams_of(collection):
        tables += [summary_table(stream), against_table(stream), *(matrix_table(stream, arm) for arm in stream.arms)]
        tables += [language_table(stream), trained_table(stream)]
    return [table for table in tables if table is not None]


def prefix(stage: str) -> str:
    """What the names of a stream's tables and figures begin with."""
    return f"stream_{slug(stage)}_"


def matrix_table(stream: Stream, arm: StreamArm) -> Table:
    """The mean matrix of one arm: a row per stage, pretraining the first, a column per task."""
    rows = []
    for stage, row in enumerate(arm.mean):
        label = f"after {stream.tasks[stage - 1]}" if stage else "pretrained"
        rows.append((Cell(label), *(_score(value) for value in row)))
    lines = len(arm.lines)
    who = " or ".join(sorted(frozenset().union(*(line.encoders for line in arm.lines))))
    notes = [f"Linear probes × 100 of the encoder that goes on ({who}), mean over {lines} chain{'s' if lines != 1 else ''}."]
    missing = int(np.isnan(arm.mean).sum())
    if missing:
        notes.append(f"{missing} of {arm.mean.size} entries are not measured: a stage is not finished, or its ft was not probed.")
    columns = (Column("stage", False), *(Column(task) for task in stream.tasks))
    title = f"Stream {stream.stage}: {arm.name}, score on each task after each stage"
    name = f"{prefix(stream.stage)}matrix-{stream.arms.index(arm)}-{slug(arm.name)}"
    return Table(name, title, columns, tuple(rows), tuple(notes))


def _score(value: float) -> Cell:
    return EMPTY if math.isnan(value) else Cell(formats.points(float(value)), float(value))


def summary_table(stream: Stream) -> Table | None:
    """Transfer and forgetting of every arm: mean, a point per chain, from eight chains on an interval."""
    rows = []
    fewest = []
    for arm, measure in itertools.product(stream.arms, MEASURES):
        found = known(arm, measure)
        if found:
            fewest.append(len(found))
            told = _told(found, _compared(found, measure.lower_is_better), PROBE, measure.signed)
            rows.append((Cell(arm.name), Cell(measure.name), *told))
    if not rows:
        return None
    columns = (Column("arm", False), Column("measure", False), Column("mean"), Column("points", False), Column("interval"))
    notes = [
        "Points × 100. Backward transfer: change on earlier tasks since their own stage. Forward transfer: score on a task "
        "before its own stage. Forgetting: best earlier score − the last, lower is better; pretraining counts as a stage.",
        f"No interval below {SMALLEST_PAIRS} chains." if min(fewest) < SMALLEST_PAIRS else "Bold where the interval excludes 0.",
    ]
    title = f"Stream {stream.stage}: transfer and forgetting"
    return Table(f"{prefix(stream.stage)}transfer", title, columns, tuple(rows), tuple(notes))


def known(arm: StreamArm, measure: Measure) -> list[tuple[Line, float]]:
    """Return the chains of an arm of which ``measure`` is known, with its value."""
    found = [(line, measure.compute(line)) for line in arm.lines]
    return [(line, value) for line, value in found if not math.isnan(value)]


def _compared(found: Sequence[tuple[Line, float]], lower_is_better: bool) -> Comparison:
    return compare([value for _, value in found], [line.start for line, _ in found], lower_is_better)


def _told(found: Sequence[tuple[Line, float]], one: Comparison, metric: Metric, signed: bool = True) -> tuple[Cell, Cell, Cell]:
    """Return mean, points and interval of a number that chains have; a ``signed`` mean is bold where its interval excludes 0."""
    bold = signed and one.interval is not None and one.interval.excludes(0)
    points = point_cells([(line.last, value) for line, value in found], metric, signed)
    interval = EMPTY if one.interval is None else Cell(formats.span(one.interval.low, one.interval.high, metric, signed))
    return mean_cell([one.mean], metric, signed, bold), points, interval


def against_table(stream: Stream) -> Table | None:
    """Every arm minus `full`, paired by start and seed; interval and test from eight pairs on, Holm over the table."""
    reference = next((arm for arm in stream.arms if arm.method == "full"), None)
    entries = []
    for arm, measure in itertools.product(stream.arms, [measure for measure in MEASURES if measure.compared]):
        found = _paired(arm, reference, measure) if reference is not None and arm is not reference else []
        if found:
            entries.append((arm, measure, found, _compared(found, measure.lower_is_better)))
    if reference is None or not entries:
        return None
    tested = [one.test.p_value for *_, one in entries if one.test]
    adjusted = iter(holm(tested))
    rows = []
    for arm, measure, found, one in entries:
        p = next(adjusted) if one.test else None
        mean, points, interval = _told(found, one, PROBE)
        pairs, adjusted_p = Cell(str(one.pairs), one.pairs), EMPTY if p is None else Cell(formats.p_value(p), p)
        rows.append((Cell(arm.name), Cell(measure.name), mean, points, pairs, interval, adjusted_p))
    heads = ("arm", "measure", "mean", "points", "pairs", "interval", "p")
    columns = tuple(Column(head, head not in ("arm", "measure", "points")) for head in heads)
    notes = [f"No interval and no verdict below {SMALLEST_PAIRS} pairs."]
    if tested:
        one = next(one for *_, one in entries if one.test)
        assert one.interval is not None
        assert one.test is not None
        how = f"{one.interval.method}; p: {one.test.method}, one-sided (better than {reference.name}), Holm over {len(tested)}."
        notes = [f"{how} Bold where the interval excludes 0."]
    title = f"Stream {stream.stage}: difference to {reference.name}, paired by start and seed"
    return Table(f"{prefix(stream.stage)}differences", title, columns, tuple(rows), tuple(notes))


def _paired(arm: StreamArm, reference: StreamArm, measure: Measure) -> list[tuple[Line, float]]:
    theirs = {(line.start, line.seed): value for line, value in known(reference, measure)}
    return [(line, value - theirs[key]) for line, value in known(arm, measure) if (key := (line.start, line.seed)) in theirs]


def language_table(stream: Stream) -> Table | None:
    """What the stages did to the language of the encoder that goes on: its held-out MLM loss, and the whole change."""
    rows = []
    for arm in stream.arms:
        mean = mean_of([line.language for line in arm.lines])
        if not np.isnan(mean).all():
            changes = [(line, float(line.language[-1] - line.language[0])) for line in arm.lines]
            found = [(line, change) for line, change in changes if not math.isnan(change)]
            losses = [EMPTY if math.isnan(value) else Cell(formats.nats(value), value) for value in mean.tolist()]
            told = _told(found, _compared(found, lower_is_better=True), LANGUAGE) if found else (EMPTY, EMPTY, EMPTY)
            rows.append((Cell(arm.name), *losses, *told))
    if not rows:
        return None
    stages = (Column("pretrained"), *(Column(f"after {task}") for task in stream.tasks))
    columns = (Column("arm", False), *stages, Column("change"), Column("points", False), Column("interval"))
    notes = (
        "Nats, lower is better; of the encoder that goes on, mean over chains.",
        f"Change: the last stage less pretrained, a point per chain; no interval below {SMALLEST_PAIRS} chains.",
    )
    title = f"Stream {stream.stage}: held-out MLM loss after each stage"
    return Table(f"{prefix(stream.stage)}language", title, columns, tuple(rows), notes)


def trained_table(stream: Stream) -> Table | None:
    """What `ft` scored on each task in the stage that trained it: does a stream make later tasks easier to learn?"""
    rows = []
    for arm in stream.arms:
        means = mean_of([line.trained for line in arm.lines])
        if not np.isnan(means).all():
            rows.append((Cell(arm.name), *(_score(value) for value in means)))
    if not rows:
        return None
    columns = (Column("arm", False), *(Column(task) for task in stream.tasks))
    notes = ("Each task's own test metric × 100 of ft, right after its stage, mean over chains.",)
    return Table(f"{prefix(stream.stage)}trained", f"Stream {stream.stage}: ft on each task", columns, tuple(rows), notes)
