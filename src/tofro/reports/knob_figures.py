"""Figures of what a choice buys: the score over λ or a budget where runs of one method differ in it, and quality over cost.

In: the arms of one task. Out: :class:`~tofro.reports.drawing.Figure`. Arms are on one line if nothing but the knob tells their
configs apart. Imports matplotlib: lazily used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tofro.objectives.settings import AlignmentSettings
from tofro.reports import formats
from tofro.reports.arms import FLOORS, Arm, comparable, floors_of, measures_of, of_task, shifts
from tofro.reports.cells import slug
from tofro.reports.collect import RunRecord
from tofro.reports.drawing import FAINT, Figure, add_legend, finish, new_canvas, new_panels
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.looks import FLOOR, Look
from tofro.reports.variants import NOT_VARIANTS, SHORT

Points = Sequence[tuple[RunRecord, float]]


@dataclass(frozen=True)
class Knob:
    """A key whose values make an axis; configs that leave it out have ``default``, keys ``along`` may change with it."""

    key: str
    title: str
    default: float | None = None
    along: tuple[str, ...] = ()


_PACE = ("budget.evaluate_every", "budget.patience")
KNOBS = (
    Knob("alignment.weight", "λ (alignment.weight)", AlignmentSettings.weight),
    Knob("budget.steps", "budget.steps", None, _PACE),
    Knob("budget.epochs", "budget.epochs", None, _PACE),
    Knob("budget.tokens", "budget.tokens", None, _PACE),
    Knob("budget.minutes", "budget.minutes", None, _PACE),
    Knob("task.train_rows", "task.train_rows", None, _PACE),
    Knob("task.per_class", "task.per_class", None, (*_PACE, "budget.batch")),
)


@dataclass(frozen=True)
class Line:
    """Arms that differ in one knob alone, by its value."""

    label: str
    look: Look
    arms: tuple[tuple[float, Arm], ...]


def knob_figures(arms: Sequence[Arm], looks: Mapping[str, Look]) -> list[Figure]:
    """One figure for every knob that some runs of one method differ in."""
    found = [(knob, lines_of(comparable(arms), knob, looks)) for knob in KNOBS]
    return [knob_figure(knob, lines) for knob, lines in found if lines]


def lines_of(arms: Sequence[Arm], knob: Knob, looks: Mapping[str, Look]) -> list[Line]:
    """Group arms whose configs are the same but for ``knob``; a group of one value is no line."""
    groups: dict[tuple[object, ...], list[tuple[float, Arm]]] = {}
    for arm in arms:
        value = arm.runs[0].config.get(knob.key, knob.default)
        if isinstance(value, int | float) and arm.points(arm.score):
            groups.setdefault((arm.method, arm.controls, _rest(arm, knob)), []).append((float(value), arm))
    lines = []
    for members in groups.values():
        if len({value for value, _ in members}) > 1:
            members.sort(key=lambda member: member[0])
            first = min((arm for _, arm in members), key=lambda arm: len(arm.label))
            lines.append(Line(_label(first, knob), looks.get(first.key, FLOOR), tuple(members)))
    return lines


def _rest(arm: Arm, knob: Knob) -> frozenset[tuple[str, str]]:
    config, started = arm.runs[0].config, bool(arm.runs[0].lineage.get("init_from"))
    left_out = {knob.key, *knob.along, *NOT_VARIANTS}
    return frozenset({(key, str(value)) for key, value in config.items() if key not in left_out} | {("start", str(started))})


def _label(arm: Arm, knob: Knob) -> str:
    """The arm's label without the knob's own word."""
    own = f"{SHORT.get(knob.key, knob.key)}="
    return ", ".join(word for word in arm.label.split(", ") if not word.startswith(own))


def knob_figure(knob: Knob, lines: Sequence[Line]) -> Figure:
    """Draw the score over the knob, and below it the change of the task's probe of ``pre`` where it was measured."""
    arms = [arm for line in lines for _, arm in line.arms]
    task, metric = arms[0].task, parse_metric(arms[0].score or "")
    probe = next((name for name in measures_of(arms, ("probe_",)) if of_task(parse_metric(name + "_pre").what) == task), None)
    panels = 2 if probe is not None else 1
    canvas, grid = new_panels(panels, 1.9 * panels + 1.0, share=True)
    rows: list[tuple[object, ...]] = []
    for line in lines:
        scores = [(value, arm.points(arm.score)) for value, arm in line.arms]
        rows += _draw_line(grid[0], line, scores, arms[0].score or "", metric)
        if probe is not None:
            changes = [(value, [(run, after - before) for run, before, after in shifts(arm, probe)]) for value, arm in line.arms]
            rows += _draw_line(grid[1], line, changes, f"change of {probe}_pre", parse_metric(f"{probe}_pre"))
    unit = "" if metric.is_loss else " × 100"
    grid[0].set_ylabel(f"{metric.split} {metric.title}{unit}")
    if probe is not None:
        grid[1].axhline(0, color=FAINT, lw=1, zorder=1)
        grid[1].set_ylabel("change of pre's probe × 100")
    values = [value for line in lines for value, _ in line.arms]
    _scale(grid, values)
    grid[-1].set_xlabel(knob.title)
    add_legend(grid[0])
    caption = "A point per run, lines through the means."
    if probe is not None:
        caption += " Below: what became of the task's probe of pre."
    name, title = f"over-{slug(knob.key)}-{slug(task)}", f"{task} over {knob.title}"
    return finish(canvas, name, title, caption, ("run", "line", knob.key, "measure", "value"), rows)


def _draw_line(
    axes: Axes, line: Line, found: Sequence[tuple[float, Points]], measure: str, metric: Metric
) -> list[tuple[object, ...]]:
    """Draw the points at each value and the line through their means; return (run, line, value, measure, number)."""
    scale = 1 if metric.is_loss else 100
    known = [(value, points) for value, points in found if points]
    for value, points in known:
        heights = scale * np.array([number for _, number in points])
        axes.scatter([value] * len(points), heights, s=14, color=line.look.colour, marker=line.look.marker, alpha=0.5, lw=0)
    means = [scale * float(np.mean([number for _, number in points])) for _, points in known]
    look = line.look
    axes.plot(
        [value for value, _ in known], means, color=look.colour, ls=look.line, marker=look.marker, ms=5, lw=1.8, label=line.label
    )
    return [(run.name, line.label, value, measure, number) for value, points in known for run, number in points]


def _scale(grid: Sequence[Axes], values: Sequence[float]) -> None:
    """Give the shared x axis a logarithm where values span a decade, and a tick at each of a few values."""
    positive = sorted({value for value in values if value > 0})
    ticks = sorted(set(values))
    if positive and positive[-1] >= 8 * positive[0]:
        for axes in grid:
            if min(values) <= 0:
                axes.set_xscale("symlog", linthresh=positive[0])
            else:
                axes.set_xscale("log")
    if len(ticks) > 8:  # not every value: the ends and some between
        ticks = ticks[:: -(-len(ticks) // 8)]
    grid[-1].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    grid[-1].xaxis.set_minor_formatter(NullFormatter())


def cost_figure(arms: Sequence[Arm], looks: Mapping[str, Look]) -> Figure | None:
    """Score over what a run costs, in FLOPs of training, or in seconds where fewer than two arms count FLOPs.

    The line joins the arms that no other beats at their cost or less.
    """
    scored = [arm for arm in comparable(arms) if arm.points(arm.score)]
    key = "flops" if sum(bool(arm.mean_cost("flops")) for arm in scored) > 1 else "seconds"
    drawn = [(arm, cost) for arm in scored if (cost := arm.mean_cost(key))]
    if len(drawn) < 2:
        return None
    metric = parse_metric(drawn[0][0].score or "")
    scale = 1 if metric.is_loss else 100
    points = [(cost, scale * float(np.mean([value for _, value in arm.points(arm.score)]))) for arm, cost in drawn]
    best = front(points, metric.lower_is_better)
    canvas, axes = new_canvas()
    if len(best) > 1:
        axes.step(*zip(*[points[index] for index in best], strict=True), where="post", color=FAINT, lw=1.2, zorder=1)
    for (arm, _), (cost, score) in zip(drawn, points, strict=True):
        look = looks.get(arm.key, FLOOR)
        axes.scatter([cost], [score], s=40, color=look.colour, marker=look.marker, lw=0, zorder=3, label=arm.label)
    _draw_floors(axes, scored, {arm.key for arm, _ in drawn}, scale)
    axes.set_xlabel("FLOPs of training, mean per run" if key == "flops" else "seconds, mean per run")
    axes.set_ylabel(f"{metric.split} {metric.title}" + ("" if metric.is_loss else " × 100"))
    shown = formats.count if key == "flops" else formats.seconds
    if max(cost for cost, _ in points) >= 8 * min(cost for cost, _ in points):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: shown(cost)))
    axes.margins(0.1, 0.12)
    add_legend(axes)
    rows = [
        (arm.label, cost, value / scale, "yes" if index in best else "no")
        for index, ((arm, cost), (_, value)) in enumerate(zip(drawn, points, strict=True))
    ]
    names = ", ".join(drawn[index][0].label for index in best)
    caption = f"Mean over runs. No arm beats at its cost or less: {names}. Dotted: the floors, whose cost is next to nothing."
    task = scored[0].task
    return finish(canvas, f"cost-{slug(task)}", f"Cost and quality on {task}", caption, ("arm", key, "score", "on front"), rows)


def _draw_floors(axes: Axes, scored: Sequence[Arm], drawn: Set[str], scale: int) -> None:
    """A dotted line at what each floor scores that has no cost to stand at."""
    floors = [[value for _, value in arm.points(arm.score)] for arm in scored if arm.method in FLOORS and arm.key not in drawn]
    floors += [[value for _, value in found] for found in floors_of(scored).values()]
    for values in floors:
        axes.axhline(scale * float(np.mean(values)), color=FAINT, lw=1, ls=(0, (1, 2)), zorder=1)


def front(points: Sequence[tuple[float, float]], lower_is_better: bool = False) -> list[int]:
    """Return which of (cost, score) no other beats at its cost or less, from the cheapest on."""
    sign = -1 if lower_is_better else 1
    best: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -sign * points[index][1])):
        if not best or sign * points[index][1] > sign * points[best[-1]][1]:
            best.append(index)
    return best
