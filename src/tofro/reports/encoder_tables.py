"""What the report's tables about the encoder `pre` hold: what pretraining taught it, and what adaptation did to it.

In: runs or arms. Out: :class:`tofro.reports.layout.Table`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tofro.reports import formats
from tofro.reports.arms import FLOORS, Arm, leaves_pre, measures_of, shifts
from tofro.reports.cells import EMPTY, mean_cell, point_cells, slug
from tofro.reports.collect import RunRecord
from tofro.reports.formats import parse_metric
from tofro.reports.layout import Cell, Column, Table
from tofro.reports.statistics import SMALLEST_PAIRS, proportion_interval

MLM = "validation/mlm_loss_pre"
PAIR = "validation/pair_accuracy_pre"
LEAK = "validation/leak_accuracy"
LEAK_NATURAL = "validation/leak_accuracy_natural"
_PROBE = re.compile(r"^test/probe_.+_(start|pre|random|random_encoder|majority|tfidf)$")


def pretraining_table(runs: Sequence[RunRecord]) -> Table | None:
    """What pretraining taught: one column per pretraining run, each number beside the one it must beat."""
    trained = [run for run in runs if run.method == "pretrain"]
    if not trained:
        return None
    rows = [
        ("validation MLM loss, nats", [_cell(run, MLM) for run in trained]),
        ("unigram entropy there, nats", [_number(unigram(run)) for run in trained]),
        ("below unigram, nats", [_number(unigram_gain(run)) for run in trained]),
        ("pair accuracy", [_cell(run, PAIR) for run in trained]),
        ("pair accuracy, 95% interval", [_pair_interval(run) for run in trained]),
        ("pairs", [_count(pair_count(run)) for run in trained]),
        ("leak classifier, these pairs", [_cell(run, LEAK) for run in trained]),
        ("leak classifier, natural text", [_cell(run, LEAK_NATURAL) for run in trained]),
    ]
    probes = sorted({name for run in trained for name in run.metrics if _PROBE.match(name)}, key=_probe_order)
    rows += [(_probe_label(name), [_cell(run, name) for run in trained]) for name in probes]
    rows += [
        ("steps", [_count(run.cost.get("steps")) for run in trained]),
        ("tokens", [_count(run.cost.get("tokens")) for run in trained]),
        ("seconds", [_cost(run, "seconds") for run in trained]),
    ]
    kept = [(Cell(label), *cells) for label, cells in rows if any(cell is not EMPTY for cell in cells)]
    columns = (Column("measure", False), *(Column(_heading(run, trained)) for run in trained))
    notes = ["Unigram entropy is that of the same masked positions. Accuracies and probes × 100."]
    if any(LEAK in run.metrics for run in trained):
        notes.append("The leak classifier sees lengths, punctuation and position alone: what it can tell apart teaches nothing.")
    return Table("pretraining", "Pretraining", columns, tuple(kept), tuple(notes))


def _heading(run: RunRecord, runs: Sequence[RunRecord]) -> str:
    name = run.corpus or "pretrain"
    name = f"{name}, {run.variant}" if run.variant else name
    return f"{name}, seed {run.seed}" if len(runs) > 1 else name


def _probe_order(name: str) -> tuple[str, bool, str]:
    metric = parse_metric(name)
    return metric.what, metric.encoder != "pre", metric.encoder


def _probe_label(name: str) -> str:
    metric = parse_metric(name)
    who = {
        "pre": "after pretraining",
        "start": "before it",
        "random": "random encoder",
        "random_encoder": "random encoder",
        "majority": "majority class",
        "tfidf": "TF-IDF",
    }[metric.encoder]
    return f"{metric.title}, {who}"


def _cell(run: RunRecord, name: str) -> Cell:
    value = run.metrics.get(name)
    return EMPTY if value is None else Cell(formats.measured(value, parse_metric(name)), value, run.folder)


def _count(value: float | None) -> Cell:
    return EMPTY if value is None else Cell(f"{value:,.0f}" if value < 1e6 else formats.count(value), value)


def _cost(run: RunRecord, key: str) -> Cell:
    value = run.cost.get(key)
    return EMPTY if value is None else Cell(formats.seconds(value), value)


def unigram(run: RunRecord) -> float | None:
    """Unigram entropy of the held-out masked positions, in nats; a fact of the data, named with or without an encoder."""
    return run.metrics.get("validation/unigram_nats", run.metrics.get("validation/unigram_nats_pre"))


def pair_count(run: RunRecord) -> float | None:
    """How many held-out pairs the pair accuracy was taken over; named with or without an encoder."""
    return run.metrics.get("validation/pair_count", run.metrics.get("validation/pair_count_pre"))


def unigram_gain(run: RunRecord) -> float | None:
    """Nats by which the held-out MLM loss lies below the unigram entropy of the same positions."""
    entropy, loss = unigram(run), run.metrics.get(MLM)
    return None if entropy is None or loss is None else entropy - loss


def _number(value: float | None) -> Cell:
    return EMPTY if value is None else Cell(formats.nats(value), value)


def _pair_interval(run: RunRecord) -> Cell:
    share, count = run.metrics.get(PAIR), pair_count(run)
    if share is None or not count:
        return EMPTY
    interval = proportion_interval(share, int(count))
    verdict = "excludes 50" if interval.excludes(0.5) else "includes 50"
    return Cell(f"{formats.span(interval.low, interval.high, parse_metric(PAIR))}, {verdict}")


def flow_table(arms: Sequence[Arm]) -> Table | None:
    """Did knowledge flow back: measures of `pre` before and after each method, and the change paired by seed."""
    arms = [arm for arm in arms if arm.method not in FLOORS]  # floors have no `pre`
    measures = measures_of(arms)
    rows: list[tuple[Cell, ...]] = []
    faint = set()
    for arm in arms:
        if leaves_pre(arm):
            faint.add(len(rows))
            rows.append((Cell(arm.label), Cell("every measure"), EMPTY, EMPTY, Cell("0", 0.0), Cell("untouched")))
            continue
        rows += [_flow_row(arm, metric) for metric in measures if shifts(arm, metric)]
    if not measures or len(faint) == len(rows):
        return None
    columns = (
        Column("method", False),
        Column("measure of pre", False),
        Column("before"),
        Column("after"),
        Column("change"),
        Column("points", False),
    )
    notes = ["MLM loss in nats (lower is better), accuracies and linear probes × 100. Change: mean over runs of after − before."]
    few = min(len(arm.runs) for arm in arms if not leaves_pre(arm))
    if few < SMALLEST_PAIRS:
        notes.append(f"No interval and no verdict below {SMALLEST_PAIRS} pairs.")
    task = arms[0].task
    return Table(f"flow-back-{slug(task)}", f"What {task} did to pre", columns, tuple(rows), tuple(notes), frozenset(faint))


def _flow_row(arm: Arm, metric: str) -> tuple[Cell, ...]:
    found = shifts(arm, metric)
    parsed = parse_metric(metric + "_pre")
    changes = [(run, end - start) for run, start, end in found]
    title = parsed.title + (" (trained)" if parsed.what == f"probe_{arm.task}" else "")
    return (
        Cell(arm.label),
        Cell(title),
        mean_cell([start for _, start, _ in found], parsed),
        mean_cell([end for _, _, end in found], parsed),
        mean_cell([change for _, change in changes], parsed, signed=True),
        point_cells(changes, parsed, signed=True),
    )
