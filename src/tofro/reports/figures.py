"""The report's figures of methods and of `pre`: scores, curves, before and after, as they are read on the page.

In: a collection. Out: :class:`~tofro.reports.drawing.Figure`. Each is small, so that a phone shows it legibly and a wide window
shows two side by side. One look belongs to a method wherever it appears. Curves over a knob and costs are in ``knob_figures.py``,
what language pays in ``exchange_figure.py``, streams in ``stream_figure.py``. Imports matplotlib: lazily used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from tofro.reports.arms import (
    FLOORS,
    RETENTION,
    Arm,
    arms_of,
    comparable,
    floors_of,
    leaves_pre,
    measures_of,
    shifts,
    start_of,
    tasks_of,
)
from tofro.reports.cells import slug
from tofro.reports.collect import Collection, Curve, RunRecord, read_curves
from tofro.reports.drawing import (
    FAINT,
    PAPER,
    TEXT,
    WIDTH,
    Figure,
    add_legend,
    finish,
    new_canvas,
    new_panels,
    spread,
    wrapped,
)
from tofro.reports.encoder_tables import MLM, unigram
from tofro.reports.exchange_figure import exchange_figure
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.knob_figures import cost_figure, knob_figures
from tofro.reports.looks import FLOOR, METHODS, Look, looks_of
from tofro.reports.statistics import compare

CURVE_POINTS = 160  # longer curves are averaged in bins of equal width
FIGURE_POINTS = 4000  # of all curves of a figure together, so that many runs make no heavy page
FEWEST_POINTS = 24  # of one curve, however many there are
THIN_LINES = 40  # more runs than this are shown by their means alone

Looks = Mapping[str, Look]


def all_figures(collection: Collection) -> list[Figure]:
    """Every figure that the runs have data for, in the order of reading."""
    looks = looks_of(collection.runs)
    figures = [pretraining_figure(collection.runs)]
    for task in tasks_of(collection.runs):
        arms = arms_of(collection.runs, task)
        figures += [method_figure(arms, looks), cost_figure(arms, looks), *knob_figures(arms, looks)]
        figures += [curve_figure(arms, looks), exchange_figure(arms, looks), flow_figure(arms, looks)]
    return [figure for figure in figures if figure is not None]


def pretraining_figure(runs: Sequence[RunRecord]) -> Figure | None:
    """Training and held-out MLM loss over the steps of every pretraining run, with the unigram entropy as a line."""
    drawn = [(run, read_curves(run, ("train/mlm_loss", MLM))) for run in runs if run.method == "pretrain"]
    drawn = [(run, curves) for run, curves in drawn if curves]
    if not drawn:
        return None
    rows: list[tuple[object, ...]] = []
    canvas, axes = new_canvas()
    limit = points_each(2 * len(drawn))
    for index, (run, curves) in enumerate(drawn):
        for name, words, colour, width in (
            ("train/mlm_loss", "training", FAINT, 1.1),
            (MLM, "held out", METHODS["full"].colour, 2.2),
        ):
            if name in curves:
                curve = thin(curves[name], limit)
                axes.plot(curve.steps, curve.values, label=None if index else words, color=colour, lw=width)
                rows += [(run.name, name, step, value) for step, value in zip(curve.steps, curve.values, strict=True)]
        if (entropy := unigram(run)) is not None:
            axes.axhline(entropy, color=TEXT, lw=1, ls=(0, (3, 3)), label=None if index else "unigram entropy")
    axes.set(xlabel="step", ylabel="MLM loss, nats")
    add_legend(axes)
    caption = "Below the dashed line the encoder knows more than word frequencies."
    return finish(canvas, "pretraining-loss", "Pretraining", caption, ("run", "metric", "step", "value"), rows)


def curve_figure(arms: Sequence[Arm], looks: Looks) -> Figure | None:
    """Validation score over the steps: a thin line per seed, a bold one for the mean of the seeds still running."""
    drawn = []
    for arm in comparable(arms):
        name = (arm.score or "").replace("test/", "validation/", 1)
        curves = [(run, found[name]) for run in arm.runs if name in (found := read_curves(run, (name,)))]
        if curves:
            drawn.append((arm, name, curves))
    if not drawn:
        return None
    rows: list[tuple[object, ...]] = []
    canvas, axes = new_canvas()
    count = sum(len(curves) for *_, curves in drawn)
    for arm, name, curves in drawn:
        metric, look = parse_metric(name), looks.get(arm.key, FLOOR)
        scale = 1 if metric.is_loss else 100
        for run, curve in [(run, thin(curve, points_each(count))) for run, curve in curves]:
            if count <= THIN_LINES:
                axes.plot(curve.steps, scale * curve.values, color=look.colour, lw=0.7, alpha=0.35)
            rows += [(run.name, arm.label, step, value) for step, value in zip(curve.steps, curve.values, strict=True)]
        steps, mean = mean_curve([curve for _, curve in curves])
        mean_line = thin(Curve(steps, steps, mean))
        marker = look.marker if mean_line.steps.size <= 12 else ""
        axes.plot(
            mean_line.steps,
            scale * mean_line.values,
            color=look.colour,
            ls=look.line,
            marker=marker,
            ms=4.5,
            lw=2,
            label=arm.label,
        )
    metric = parse_metric(drawn[0][1])
    axes.set(xlabel="step", ylabel=metric.title if metric.is_loss else f"validation {metric.title}")
    add_legend(axes)
    task = arms[0].task
    caption = "Thin: one seed. Bold: mean over the seeds evaluated at that step."
    if count > THIN_LINES:
        caption = f"Means over the seeds evaluated at a step; the {count} runs are in the data."
    return finish(canvas, f"curves-{slug(task)}", f"Fine-tuning on {task}", caption, ("run", "arm", "step", "value"), rows)


def method_figure(arms: Sequence[Arm], looks: Looks) -> Figure | None:
    """Scores by method: every run a point, the mean a bar, from eight runs on its interval; floors of the runs as rows."""
    scored = [arm for arm in comparable(arms) if arm.points(arm.score)]
    if not scored:
        return None
    count = len(scored) + len(floors_of(scored))
    canvas, axes = new_canvas(0.36 * count + 1.0)
    rows = draw_scores(axes, scored, looks)
    caption = "A point per run, a bar at the mean, a line over its 95% interval where eight runs or more give one."
    task = scored[0].task
    return finish(canvas, f"scores-{slug(task)}", f"Methods on {task}", caption, ("run", "arm", "score"), rows)


def draw_scores(axes: Axes, arms: Sequence[Arm], looks: Looks) -> list[tuple[object, ...]]:
    """Draw a row per arm and per floor; return (run, arm, score) of every point."""
    rows: list[tuple[object, ...]] = []
    metric = parse_metric(arms[0].score or "")
    scale = 1 if metric.is_loss else 100
    entries = [(arm.label, arm.points(arm.score), looks.get(arm.key, FLOOR)) for arm in arms]
    entries += [(FLOORS[floor], found, FLOOR) for floor, found in floors_of(arms).items()]
    for place, (label, found, look) in enumerate(entries):
        values = scale * np.array([value for _, value in found])
        axes.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=look.colour, lw=2.4)
        axes.scatter(values, spread(place, len(values)), s=24, color=look.colour, marker=look.marker, alpha=0.7, lw=0, zorder=3)
        interval = compare(values, [start_of(run) for run, _ in found]).interval
        if interval is not None:
            axes.plot([interval.low, interval.high], [place] * 2, color=look.colour, lw=1.4, solid_capstyle="butt")
        rows += [(run.name, label, value) for run, value in found]
    axes.set_yticks(range(len(entries)), [wrapped(label) for label, *_ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{metric.split} {metric.title}" + ("" if metric.is_loss else " × 100"))
    return rows


def flow_figure(arms: Sequence[Arm], looks: Looks) -> Figure | None:
    """Measures of ``pre`` before (hollow) and after (filled), a line per run: accuracies above, the MLM loss below."""
    moved = [arm for arm in arms if not leaves_pre(arm)]
    measures = [name for name in measures_of(moved, (*RETENTION, "probe_")) if any(shifts(arm, name) for arm in moved)]
    losses = [name for name in measures if parse_metric(name + "_pre").is_loss]
    shares = [name for name in measures if name not in losses]
    panels = [names for names in (shares, losses) if names]
    if not panels:
        return None
    rows: list[tuple[object, ...]] = []
    heights = [len(names) * max(1, 0.5 * len(moved)) + 0.6 for names in panels]
    canvas, grid = new_panels(len(panels), 0.33 * sum(heights) + 0.55 * len(panels) + 0.5, heights)
    for axes, names in zip(grid, panels, strict=True):
        rows += draw_shifts(axes, names, moved, looks)
    if len(moved) > 1:
        add_legend(grid[0])
    task = arms[0].task
    caption = "Hollow: before. Filled: after. One line per run."
    return finish(
        canvas, f"flow-back-{slug(task)}", f"What {task} did to pre", caption, ("run", "arm", "measure", "before", "after"), rows
    )


def draw_shifts(axes: Axes, names: Sequence[str], arms: Sequence[Arm], looks: Looks) -> list[tuple[object, ...]]:
    """Draw the arms' shifts of each measure as a group of lines; return (run, arm, measure, before, after) of every line."""
    rows: list[tuple[object, ...]] = []
    is_loss = parse_metric(names[0] + "_pre").is_loss
    scale = 1 if is_loss else 100
    labelled: set[str] = set()
    for place, name in enumerate(names):
        for offset, arm in enumerate(arms):
            found = shifts(arm, name)
            if not found:
                continue
            middle = place + (offset - (len(arms) - 1) / 2) * 0.8 / len(arms)
            look = looks.get(arm.key, FLOOR)
            heights = spread(middle, len(found), 0.7 / len(arms))
            before, after = (scale * np.array([shift[side] for shift in found]) for side in (1, 2))
            label = None if arm.key in labelled else arm.label
            labelled.add(arm.key)
            axes.hlines(heights, before, after, color=look.colour, lw=1.2, alpha=0.8, zorder=2)
            axes.scatter(before, heights, s=16, facecolor=PAPER, edgecolor=look.colour, lw=1.1, zorder=3)
            axes.scatter(after, heights, s=20, color=look.colour, marker=look.marker, lw=0, zorder=4, label=label)
            rows += [(run.name, arm.label, name, *values) for run, *values in found]
    titles = [parse_metric(name + "_pre").title for name in names]
    axes.set_yticks(range(len(names)), [wrapped(title) for title in titles])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    axes.set_xlabel("nats, lower is better" if is_loss else "accuracy × 100")
    return rows


def paper_figure(collection: Collection) -> Figure | None:
    """The figure of a paper: scores by method, and beside them what each method did to the task's probe of ``pre``."""
    looks = looks_of(collection.runs)
    panels = []
    for task in tasks_of(collection.runs):
        arms = arms_of(collection.runs, task)
        scored = [arm for arm in comparable(arms) if arm.points(arm.score)]
        moved = [arm for arm in arms if not leaves_pre(arm)]
        probes = [name for name in measures_of(moved, ("probe_",)) if any(shifts(arm, name) for arm in moved)]
        if scored:
            panels.append((scored, moved, probes))
    if not panels:
        return None
    rows: list[tuple[object, ...]] = []
    heights = [max(0.36 * len(scored), 0.3 * len(probes) * max(1, 0.6 * len(moved))) + 1.0 for scored, moved, probes in panels]
    beside = any(probes for *_, probes in panels)
    canvas, grid = new_panels(len(panels), sum(heights), heights, columns=2 if beside else 1, width=7.2 if beside else WIDTH)
    for place, (scored, moved, probes) in enumerate(panels):
        task, metric = scored[0].task, parse_metric(scored[0].score or "")
        left = grid[place * (2 if beside else 1)]
        left.set_title(f"ft on {task}", loc="left", fontsize=9)
        rows += [(task, run, arm, _name(metric), "", value) for run, arm, value in draw_scores(left, scored, looks)]
        if beside:
            right = grid[2 * place + 1]
            right.set_visible(bool(probes))
            right.set_title("pre before (hollow) and after", loc="left", fontsize=9)
            rows += [(task, *row) for row in (draw_shifts(right, probes, moved, looks) if probes else ())]
            right.set_xlabel("probe accuracy × 100")
    head = ("task", "run", "arm", "measure", "before", "value")
    caption = "Left: the score of ft, a point per run. Right: linear probes of pre before and after."
    return finish(canvas, "figure", "Scores of ft, and what became of pre", caption, head, rows)


def _name(metric: Metric) -> str:
    return f"{metric.split}/{metric.what}"


def points_each(curves: int) -> int:
    """How many points each of so many curves of one figure may have."""
    return max(FEWEST_POINTS, min(CURVE_POINTS, FIGURE_POINTS // max(1, curves)))


def thin(curve: Curve, limit: int = CURVE_POINTS) -> Curve:
    """A curve of at most ``limit`` points, each the mean of a bin of neighbours."""
    if curve.steps.size <= limit:
        return curve
    bins = np.array_split(np.arange(curve.steps.size), limit)
    return Curve(*(np.array([column[one].mean() for one in bins]) for column in (curve.steps, curve.seconds, curve.values)))


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (N,) at which any curve was evaluated, and the mean (N,) of those evaluated there."""
    at, place = np.unique(np.concatenate([curve.steps for curve in curves]), return_inverse=True)
    values = np.concatenate([curve.values for curve in curves])
    return at, np.bincount(place.ravel(), values) / np.bincount(place.ravel())
