"""What the report's tables about the encoder `pre` hold: what pretraining taught it, and what adaptation did to it.

In: runs or arms. Out: :class:`tofro.reports.layout.Table`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tofro.reports import formats
from tofro.reports.arms import (
    FLOORS,
    Arm,
    compare_runs,
    leaves_pre,
    measures_of,
    of_task,
    other_probes,
    other_shifts,
    shifts,
    unseen_labels,
)
from tofro.reports.cells import EMPTY, mean_cell, point_cells, slug
from tofro.reports.collect import RunRecord
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.layout import Cell, Column, Table
from tofro.reports.statistics import SMALLEST_PAIRS, proportion_interval

MLM = "validation/mlm_loss_pre"
PAIR = "validation/pair_accuracy_pre"
LEAK = "validation/leak_accuracy"
LEAK_NATURAL = "validation/leak_accuracy_natural"
KINDS = {  # beginnings of measures -> what a note says of them
    "mlm_loss": "MLM loss in nats (lower is better)",
    "pair_accuracy": "pair accuracy × 100",
    "probe_": "linear probes × 100",
    "knn_": "nearest neighbours × 100",
    "few_shot_": "fine-tuning on k examples a class × 100",
    "prompt_": "prompts × 100",
}
MECHANISM = ("cka_", "effective_rank", "uniformity", "alignment", "displacement")
SIDES = ("start", "pre", "ft")
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
            rows.append((Cell(arm.label), Cell("every measure"), EMPTY, EMPTY, Cell("0", 0.0), Cell("untouched"), EMPTY))
            continue
        rows += [_flow_row(arm, parse_metric(f"{name}_pre"), found) for name in measures if (found := shifts(arm, name))]
        if len(others := other_probes(arm)) > 1:
            rows.append(_flow_row(arm, parse_metric(f"{others[0]}_pre"), other_shifts(arm), "mean of the other tasks' probes"))
    if not measures or len(faint) == len(rows):
        return None
    heads = ("method", "measure of pre", "before", "after", "change", "points", "interval")
    columns = tuple(Column(head, head not in ("method", "measure of pre", "points")) for head in heads)
    whats = [parse_metric(name + "_pre").what for name in measures]
    kinds = [words for start, words in KINDS.items() if any(what.startswith(start) for what in whats)]
    notes = [f"Units: {', '.join(kinds)}. Change: mean over runs of after − before."]
    few = min(len(arm.runs) for arm in arms if not leaves_pre(arm))
    notes.append(
        f"No interval and no verdict below {SMALLEST_PAIRS} pairs."
        if few < SMALLEST_PAIRS
        else "95% interval of the change, over pretraining seeds where there are several. Bold where it excludes 0."
    )
    notes += sorted({said for arm in arms if not leaves_pre(arm) and (said := unseen_labels(arm))})
    task = arms[0].task
    return Table(f"flow-back-{slug(task)}", f"What {task} did to pre", columns, tuple(rows), tuple(notes), frozenset(faint))


def _flow_row(
    arm: Arm, parsed: Metric, found: Sequence[tuple[RunRecord, float, float]], title: str | None = None
) -> tuple[Cell, ...]:
    changes = [(run, end - start) for run, start, end in found]
    title = title or parsed.title + (" (trained)" if of_task(parsed.what) == arm.task else "")
    one = compare_runs(changes, parsed)
    bold = one.interval is not None and one.interval.excludes(0)
    return (
        Cell(arm.label),
        Cell(title),
        mean_cell([start for _, start, _ in found], parsed),
        mean_cell([end for _, _, end in found], parsed),
        mean_cell([one.mean], parsed, True, bold),
        point_cells(changes, parsed, signed=True),
        EMPTY if one.interval is None else Cell(formats.span(one.interval.low, one.interval.high, parsed, True)),
    )


def mechanism_table(arms: Sequence[Arm]) -> Table | None:
    """How the encoders changed, where flow_table says what for: similarity by layer, rank, distance; of the start, pre and ft."""
    rows = []
    for arm in arms:
        found: dict[tuple[str, str], list[float]] = {}  # (what, encoder) -> the runs' values
        for run in arm.runs:
            for name, value in run.metrics.items():
                metric = parse_metric(name)
                if metric.is_number and metric.what.startswith(MECHANISM):
                    found.setdefault((metric.what, metric.encoder or "ft"), []).append(value)  # what is of both stands at ft
            if (gap := _overfit(run, arm.score or "")) is not None:
                found.setdefault(("overfit", "ft"), []).append(gap)
        for family, names in _by_family(found).items():
            cells = [_layers([(what, found[what, encoder]) for what in names if (what, encoder) in found]) for encoder in SIDES]
            rows.append((Cell(arm.label), Cell(family), *cells))
    if not rows:
        return None
    columns = (Column("method", False), Column("mechanism", False), Column("start"), Column("pre"), Column("ft"))
    task = arms[0].task
    notes = ["Means over runs. By layer: from the embeddings up. CKA 1: the same up to rotation and scale."]
    return Table(f"mechanism-{slug(task)}", f"How {task} changed the encoders", columns, tuple(rows), tuple(notes))


def _overfit(run: RunRecord, score: str) -> float | None:
    """Return how much better a run does on rows it was trained on than on validation, where both are known."""
    on_train, held_out = (run.metrics.get(score.replace("test/", f"{split}/")) for split in ("train", "validation"))
    return None if on_train is None or held_out is None else on_train - held_out


def _by_family(found: Mapping[tuple[str, str], object]) -> dict[str, list[str]]:
    """Group names that differ in a layer alone, in the order of layers: title -> names."""
    families: dict[str, list[str]] = {}
    for what in sorted({what for what, _ in found}, key=lambda what: [int(part) for part in re.findall(r"\d+", what)]):
        title = re.sub(r", layer \d+$", ", by layer", Metric("validation", what, "").title)
        families.setdefault(title, []).append(what)
    return dict(sorted(families.items()))


def _layers(values: Sequence[tuple[str, list[float]]]) -> Cell:
    """One number, or one for each layer."""
    cells = [mean_cell(found, Metric("validation", what, "")) for what, found in values]
    return EMPTY if not cells else cells[0] if len(cells) == 1 else Cell.points(cells)
