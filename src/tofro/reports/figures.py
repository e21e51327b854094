"""The report's figures as SVG that fits its page: text is text, colours follow light and dark, bytes are the same every time.

In: a collection. Out: :class:`Figure` with SVG and the drawn data as CSV. Each figure is small, so that a phone shows it legibly
and a wide window shows two side by side. One colour belongs to a method wherever it appears. Imports matplotlib: lazily used.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from tofro.reports.arms import FLOORS, RETENTION, Arm, arms_of, floors_of, leaves_pre, measures_of, shifts, tasks_of
from tofro.reports.cells import slug
from tofro.reports.collect import Collection, Curve, RunRecord, read_curves
from tofro.reports.encoder_tables import MLM, unigram
from tofro.reports.formats import parse_metric

WIDTH, HEIGHT = 4.7, 3.1  # inches; at 96 px an inch a column of the page
CURVE_POINTS = 160  # longer curves are averaged in bins of equal width
COLOURS = {  # told apart under the common colour-vision deficiencies, and legible on white and on near-black
    "full": "#2f7fc1",
    "two_way": "#d9601a",
    "partial": "#159c77",
    "prompt": "#c76ba0",
    "pretrain": "#2f7fc1",
}
SPARE = ("#c99700", "#7d6fc4", "#3fa7d6", "#a8653a", "#6b8e23", "#b5485d")
TEXT, FAINT, GRID, PAPER = "#010203", "#040506", "#0a0b0c", "#070809"  # `finish` puts the page's colours here
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.id": None,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": TEXT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "text.color": TEXT,
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.unicode_minus": True,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Figure:
    """One drawing: ``svg`` to put into a page, ``csv`` with what it shows."""

    name: str
    title: str
    caption: str
    svg: str
    csv: str


def all_figures(collection: Collection) -> list[Figure]:
    """Every figure that the runs have data for, in the order of reading."""
    colours = colour_map(collection.runs)
    figures = [pretraining_figure(collection.runs)]
    for task in tasks_of(collection.runs):
        arms = arms_of(collection.runs, task)
        figures += [method_figure(arms, colours), curve_figure(arms, colours), flow_figure(arms, colours)]
    return [figure for figure in figures if figure is not None]


def colour_map(runs: Sequence[RunRecord]) -> dict[str, str]:
    """One colour per method and variant: the first variant has the method's own, further ones and other methods spare ones."""
    chosen: dict[str, str] = {}
    spare = 0
    for task in tasks_of(runs):
        for arm in arms_of(runs, task):
            if arm.key in chosen or arm.method in FLOORS:
                continue
            own = COLOURS.get(arm.method)
            if own is None or own in chosen.values():
                own, spare = SPARE[spare % len(SPARE)], spare + 1
            chosen[arm.key] = own
    return chosen


def pretraining_figure(runs: Sequence[RunRecord]) -> Figure | None:
    """Training and held-out MLM loss over the steps of every pretraining run, with the unigram entropy as a line."""
    drawn = [(run, read_curves(run)) for run in runs if run.method == "pretrain"]
    drawn = [(run, curves) for run, curves in drawn if {"train/mlm_loss", MLM} & curves.keys()]
    if not drawn:
        return None
    rows: list[tuple[object, ...]] = []
    canvas, axes = new_canvas()
    for index, (run, curves) in enumerate(drawn):
        for name, words, colour, width in (
            ("train/mlm_loss", "training", FAINT, 1.1),
            (MLM, "held out", COLOURS["pretrain"], 2.2),
        ):
            if name in curves:
                curve = thin(curves[name])
                axes.plot(curve.steps, curve.values, label=None if index else words, color=colour, lw=width)
                rows += [(run.name, name, step, value) for step, value in zip(curve.steps, curve.values, strict=True)]
        if (entropy := unigram(run)) is not None:
            axes.axhline(entropy, color=TEXT, lw=1, ls=(0, (3, 3)), label=None if index else "unigram entropy")
    axes.set(xlabel="step", ylabel="MLM loss, nats")
    _legend(axes)
    caption = "Below the dashed line the encoder knows more than word frequencies."
    return finish(canvas, "pretraining-loss", "Pretraining", caption, ("run", "metric", "step", "value"), rows)


def curve_figure(arms: Sequence[Arm], colours: dict[str, str]) -> Figure | None:
    """Validation score over the steps: a thin line per seed, a bold one for the mean of the seeds still running."""
    rows: list[tuple[object, ...]] = []
    canvas, axes = new_canvas()
    label = ""
    for arm in arms:
        name = (arm.score or "").replace("test/", "validation/", 1)
        curves = [(run, curve) for run in arm.runs if (curve := read_curves(run).get(name)) is not None]
        if not curves:
            continue
        metric, colour = parse_metric(name), colours.get(arm.key, FAINT)
        scale, label = (1, metric.title) if metric.is_loss else (100, f"validation {metric.title}")
        for run, curve in curves:
            axes.plot(curve.steps, scale * curve.values, color=colour, lw=0.8, alpha=0.45)
            rows += [(run.name, arm.label, step, value) for step, value in zip(curve.steps, curve.values, strict=True)]
        steps, mean = mean_curve([curve for _, curve in curves])
        axes.plot(steps, scale * mean, color=colour, lw=2.2, label=arm.label)
    if not rows:
        return None
    axes.set(xlabel="step", ylabel=label)
    _legend(axes)
    task = arms[0].task
    caption = "Thin: one seed. Bold: mean over the seeds evaluated at that step."
    return finish(canvas, f"curves-{slug(task)}", f"Fine-tuning on {task}", caption, ("run", "arm", "step", "value"), rows)


def method_figure(arms: Sequence[Arm], colours: dict[str, str]) -> Figure | None:
    """Scores by method: every run a point, the mean a bar; floors as dashed lines."""
    rows: list[tuple[object, ...]] = []
    scored = [arm for arm in arms if arm.points(arm.score)]
    if not scored:
        return None
    metric = parse_metric(scored[0].score or "")
    scale = 1 if metric.is_loss else 100
    entries = [(arm.label, arm.points(arm.score), colours.get(arm.key, FAINT)) for arm in scored]
    entries += [(FLOORS[floor], found, FAINT) for floor, found in floors_of(scored).items()]
    canvas, axes = new_canvas(0.36 * len(entries) + 1.0)
    for place, (label, found, colour) in enumerate(entries):
        values = scale * np.array([value for _, value in found])
        axes.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour, lw=2.4)
        axes.scatter(values, _spread(place, len(values)), s=26, color=colour, alpha=0.75, lw=0, zorder=3)
        rows += [(run.name, label, value) for run, value in found]
    axes.set_yticks(range(len(entries)), [label for label, _, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{metric.split} {metric.title}")
    caption = "A point per run, a bar at the mean."
    task = scored[0].task
    return finish(canvas, f"scores-{slug(task)}", f"Methods on {task}", caption, ("run", "arm", "score"), rows)


def flow_figure(arms: Sequence[Arm], colours: dict[str, str]) -> Figure | None:
    """Measures of ``pre`` before (hollow) and after (filled), a line per run: accuracies above, the MLM loss below."""
    moved = [arm for arm in arms if not leaves_pre(arm)]
    measures = [name for name in measures_of(moved, (*RETENTION, "probe_")) if any(shifts(arm, name) for arm in moved)]
    losses = [name for name in measures if parse_metric(name + "_pre").is_loss]
    shares = [name for name in measures if name not in losses]
    panels = [names for names in (shares, losses) if names]
    if not panels:
        return None
    rows: list[tuple[object, ...]] = []
    heights = [len(names) * max(1, 0.6 * len(moved)) + 0.6 for names in panels]
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 0.33 * sum(heights) + 0.55 * len(panels) + 0.5), layout="constrained")
        grid = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, names in zip(grid, panels, strict=True):
        rows += _draw_shifts(axes, names, moved, colours)
    if len(moved) > 1:
        _legend(grid[0])
    task = arms[0].task
    caption = "Hollow: before. Filled: after. One line per run."
    return finish(
        canvas, f"flow-back-{slug(task)}", f"What {task} did to pre", caption, ("run", "arm", "measure", "before", "after"), rows
    )


def _draw_shifts(axes: Axes, names: Sequence[str], arms: Sequence[Arm], colours: dict[str, str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    is_loss = parse_metric(names[0] + "_pre").is_loss
    scale = 1 if is_loss else 100
    for place, name in enumerate(names):
        for offset, arm in enumerate(arms):
            found = shifts(arm, name)
            middle = place + (offset - (len(arms) - 1) / 2) * 0.8 / len(arms)
            colour = colours.get(arm.key, FAINT)
            if not found:
                continue
            heights = _spread(middle, len(found), 0.7 / len(arms))
            before, after = (scale * np.array([shift[side] for shift in found]) for side in (1, 2))
            axes.hlines(heights, before, after, color=colour, lw=1.4, alpha=0.8, zorder=2)
            axes.scatter(before, heights, s=20, facecolor=PAPER, edgecolor=colour, lw=1.2, zorder=3)
            axes.scatter(after, heights, s=20, color=colour, lw=0, zorder=4, label=None if place else arm.label)
            rows += [(run.name, arm.label, name, *values) for run, *values in found]
    titles = [parse_metric(name + "_pre").title for name in names]
    axes.set_yticks(range(len(names)), titles)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    axes.set_xlabel("nats, lower is better" if is_loss else "accuracy × 100")
    return rows


def thin(curve: Curve, limit: int = CURVE_POINTS) -> Curve:
    """A curve of at most ``limit`` points, each the mean of a bin of neighbours."""
    if curve.steps.size <= limit:
        return curve
    bins = np.array_split(np.arange(curve.steps.size), limit)
    return Curve(*(np.array([column[one].mean() for one in bins]) for column in (curve.steps, curve.seconds, curve.values)))


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (N,) at which any curve was evaluated, and the mean (N,) of those evaluated there."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    return steps, np.array([np.concatenate([curve.values[curve.steps == step] for curve in curves]).mean() for step in steps])


def _spread(place: float, count: int, width: float = 0.36) -> np.ndarray:
    """``count`` heights around ``place``, so that equal values stay visible."""
    return place + (np.linspace(-width / 2, width / 2, count) if count > 1 else np.zeros(count))


def new_canvas(height: float = HEIGHT) -> tuple[Canvas, Axes]:
    """Return an empty figure in the page's style."""
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
        return canvas, canvas.subplots()


def _legend(axes: Axes) -> None:
    with matplotlib.rc_context(STYLE):
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axes.legend(
            unique.values(),
            unique.keys(),
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=3,
            handlelength=1.4,
            columnspacing=1.4,
            borderaxespad=0.2,
        )


def finish(canvas: Canvas, name: str, title: str, caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Figure:
    """Write the canvas as SVG without date and size, with the page's colours and fonts and ids of its own."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        FigureCanvasSVG(canvas).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1), count=1)
    svg = svg.replace(TEXT, "currentColor")
    svg = svg.replace(FAINT, "var(--faint, #9aa0a6)").replace(GRID, "var(--hair, #e4e4e4)").replace(PAPER, "var(--paper, #fff)")
    svg = svg.replace("font-family: 'DejaVu Sans'", "font-family: system-ui, sans-serif")
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title, quote=True)}" stroke-linejoin="round" ', 1)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return Figure(name, title, caption, svg.strip(), text.getvalue())
