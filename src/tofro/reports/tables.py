"""What the report's tables about methods and runs hold: scores and costs, differences to `full`, every run.

In: a collection. Out: :class:`tofro.reports.layout.Table`. Tables about the encoder `pre` are in ``encoder_tables.py``.
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
    start_of,
    tasks_of,
    templates_of,
)
from tofro.reports.cells import EMPTY, mean_cell, point_cells, slug
from tofro.reports.choice import choice_table
from tofro.reports.collect import Collection, RunRecord
from tofro.reports.encoder_tables import flow_table, mechanism_table, pretraining_table
from tofro.reports.formats import MISSING, parse_metric
from tofro.reports.layout import Cell, Column, Table
from tofro.reports.overview import overview_table
from tofro.reports.prompt_tables import prompt_table
from tofro.reports.statistics import SMALLEST_PAIRS, holm, pairs_needed
from tofro.reports.stream_tables import stream_tables


def all_tables(collection: Collection) -> list[Table]:
    """Every table of the report, in the order of reading; the table of all runs is the page's alone."""
    several = len(tasks_of(collection.runs)) > 1  # of one task, the table of its methods says as much
    tables = [overview_table(collection) if several else None, pretraining_table(collection.runs), choice_table(collection.runs)]
    for task in tasks_of(collection.runs):
        arms = arms_of(collection.runs, task)
        pretrained = [run for run in collection.runs if run.method == "pretrain"]
        tables += [method_table(arms, pretrained), prompt_table(arms), difference_table(arms)]
        tables += [flow_table(arms), mechanism_table(arms)]
    return [*(table for table in tables if table is not None), *stream_tables(collection)]


def method_table(arms: Sequence[Arm], pretrained: Sequence[RunRecord] = ()) -> Table | None:
    """Methods on one task: mean score and every seed's point, validation score, runs and what they cost.

    ``pretrained`` are the runs that taught the encoder, to whose cost that of ``full`` is compared.
    """
    scored = [arm for arm in arms if arm.score is not None]
    if not scored:
        return None
    alike = comparable(scored)
    task, metric = scored[0].task, parse_metric(alike[0].score or "")
    reference = reference_arm(arms)
    rows = [_method_row(arm, reference, "" if arm in alike else _other_quantity(arm)) for arm in scored]
    faint = {index for index, arm in enumerate(scored) if arm.method in FLOORS or arm not in alike}
    for floor, found in floors_of(scored).items():
        faint.add(len(rows))
        mean = mean_cell([value for _, value in found], metric)
        rows.append((Cell(FLOORS[floor]), mean, point_cells(found, metric), *[EMPTY] * 7))
    columns = [
        Column("method", False),
        Column(metric.split),
        Column("points", False),
        Column("validation"),
        Column("runs"),
        Column("seconds"),
        Column("time"),
        Column("FLOPs"),
        Column("tokens"),
        Column("MB"),
    ]
    notes = [
        f"{metric.split} and validation: {metric.title} × 100, mean over runs; one point per seed."
        if not metric.is_loss
        else f"{metric.title} in nats, mean over runs."
    ]
    notes += [
        f"{arm.label}: {formats.span(min(v), max(v), metric)}, a spread over templates, no seeds."
        for arm in scored
        if arm.method in SEEDLESS and len(v := [value for run in arm.runs for value in templates_of(run).values()]) > 1
    ]
    notes.append(
        "seconds, FLOPs, tokens and peak memory (MB) are means per run"
        + (f"; time of training and FLOPs as ratios to {reference.label}." if reference else ".")
    )
    if reference is not None and (share := _share_of_pretraining(reference, pretrained)):
        notes.append(share)
    return Table(f"methods-{slug(task)}", f"Methods on {task}", tuple(columns), tuple(rows), tuple(notes), frozenset(faint))


def _share_of_pretraining(arm: Arm, pretrained: Sequence[RunRecord]) -> str:
    """Say what share of its pretraining an arm cost."""
    starts = {start_of(run) for run in arm.runs}
    own = [run for run in pretrained if run.id in starts]
    shares = []
    for key, words in (("train_seconds", "time"), ("flops", "FLOPs")):
        spent = [run.cost[key] for run in own if run.cost.get(key)]
        mean = arm.mean_cost(key)
        if spent and mean is not None:
            shares.append(f"{formats.ratio(mean * len(spent) / sum(spent))} the {words}")
    return f"{arm.label} took {' and '.join(shares)} of pretraining from scratch." if shares else ""


def _ratio(arm: Arm, reference: Arm | None, key: str) -> Cell:
    """What an arm spent, as a ratio to the reference."""
    mean, base = arm.mean_cost(key), reference.mean_cost(key) if reference is not None else None
    value = mean / base if mean is not None and base else None
    return Cell(formats.ratio(value), value)


def _other_quantity(arm: Arm) -> str:
    """Say what an arm is scored by that the table's heading does not name."""
    metric = parse_metric(arm.score or "")
    return f", {metric.title}" + (f" of {metric.encoder}" if metric.encoder in ("pre", "ft") else "")


def _method_row(arm: Arm, reference: Arm | None, remark: str = "") -> tuple[Cell, ...]:
    score = arm.score or ""
    metric = parse_metric(score)
    found = arm.points(score)
    validation = [value for _, value in arm.points(score.replace("test/", "validation/", 1))]
    tokens = arm.mean_cost("tokens")
    spent, memory = arm.mean_cost("seconds"), arm.mean_cost("peak_memory_mb")
    return (
        Cell(arm.label + remark),
        mean_cell([value for _, value in found], metric),
        point_cells(found, metric),
        mean_cell(validation, metric),
        Cell(str(len(arm.runs)), len(arm.runs)),
        Cell(formats.seconds(spent), spent),
        _ratio(arm, reference, "train_seconds"),
        _ratio(arm, reference, "flops"),
        Cell(formats.count(tokens), tokens),
        Cell(formats.seconds(memory), memory),
    )


def difference_table(arms: Sequence[Arm]) -> Table | None:
    """Every arm minus `full`, paired by seed: points and mean; interval and test from eight pairs on."""
    reference = reference_arm(arms)
    others = [arm for arm in arms if reference is not None and arm is not reference and arm.method not in SEEDLESS]
    pairs = [(arm, found) for arm in others if reference and (found := differences(arm, reference))]
    if reference is None or reference.score is None or not pairs:
        return None
    metric = parse_metric(reference.score)
    compared = [compare_runs(found, metric) for _, found in pairs]
    tested = [one.test.p_value for one in compared if one.test]
    adjusted = iter(holm(tested))
    rows, notes = [], []
    for (arm, found), one in zip(pairs, compared, strict=True):
        if one.test:
            p = next(adjusted)
            judged = (
                Cell(formats.span(one.interval.low, one.interval.high, metric, True)) if one.interval else EMPTY,
                Cell(formats.p_value(p), p),
            )
        else:
            judged = (EMPTY, EMPTY)
        bold = one.interval is not None and one.interval.excludes(0)
        rows.append(
            (
                Cell(arm.label),
                mean_cell([one.mean], metric, True, bold),
                point_cells(found, metric, True),
                Cell(str(one.pairs), one.pairs),
                *judged,
            )
        )
        if one.pairs > 1 and one.sd > 0 and not metric.is_loss:
            notes.append(
                f"{arm.label}: sd {formats.points(one.sd)}; one point at this sd needs about "
                f"{pairs_needed(one.sd, 0.01)} pairs (power 0.8)."
            )
    few = min(one.pairs for one in compared)
    if few < SMALLEST_PAIRS:
        notes.insert(0, f"No interval and no verdict below {SMALLEST_PAIRS} pairs.")
    if tested:
        first = next(one for one in compared if one.test)
        assert first.interval is not None
        assert first.test is not None
        notes.insert(
            0,
            f"{first.interval.method}; p: {first.test.method}, one-sided, Holm over {len(tested)}. "
            "Bold where the interval excludes 0.",
        )
    columns = (Column("method", False), Column("mean"), Column("points", False), Column("pairs"), Column("interval"), Column("p"))
    title = f"Difference to {reference.label} on {reference.task}, paired by seed"
    return Table(f"differences-{slug(reference.task)}", title, columns, tuple(rows), tuple(notes))


def run_table(collection: Collection) -> Table:
    """Every run: finished ones with score and cost, unfinished ones as such."""
    columns = (
        Column("run", False),
        Column("method", False),
        Column("data", False),
        Column("seed"),
        Column("score"),
        Column("seconds"),
        Column("state", False),
    )
    rows = []
    for run in (*collection.runs, *collection.unfinished):
        value = run.metrics.get(run.score or "")
        cost = run.cost.get("seconds")
        method = f"{run.method}, {run.variant}" if run.variant else run.method
        score = formats.measured(value, parse_metric(run.score or ""))
        state = "finished" if run.finished else "unfinished"
        rows.append(
            (
                Cell(run.name, run=run.folder),
                Cell(method),
                Cell(run.task or run.corpus or MISSING),
                Cell(str(run.seed), run.seed),
                Cell(score, value),
                Cell(formats.seconds(cost), cost),
                Cell(state),
            )
        )
    faint = frozenset(range(len(collection.runs), len(rows)))
    return Table("runs", "All runs", columns, tuple(rows), faint=faint)
