"""A stream's matrices as heat maps, one panel per arm: what each stage did to every task.

In: a collection. Out: :class:`tofro.reports.drawing.Figure`. Cells are vector rectangles that show the page's paper through, so
that light and dark both keep them legible. Imports matplotlib: lazily used.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from tofro.reports.collect import Collection
from tofro.reports.continual import Stream, StreamArm, streams_of
from tofro.reports.drawing import STYLE, TEXT, WIDTH, Figure, finish
from tofro.reports.stream_tables import prefix

UP, DOWN = "#2f7fc1", "#d9601a"  # told apart under the common colour-vision deficiencies
DEEPEST = 0.7  # opacity of the largest change; the number on it stays legible


def stream_figures(collection: Collection) -> list[Figure]:
    """A figure for every stream."""
    return [stream_figure(stream) for stream in streams_of(collection)]


def stream_figure(stream: Stream) -> Figure:
    """Draw the mean matrix of every arm; colour is the change since pretraining, on one scale for all arms."""
    changes = np.concatenate([(arm.mean - arm.mean[0]).ravel() for arm in stream.arms])
    largest = float(np.nanmax(np.abs(changes))) if not np.isnan(changes).all() else 0.0
    stages, tasks = len(stream.tasks) + 1, len(stream.tasks)
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, len(stream.arms) * (0.34 * stages + 0.75)), layout="constrained")
        grid = canvas.subplots(len(stream.arms), 1, squeeze=False)[:, 0]
        for axes, arm in zip(grid, stream.arms, strict=True):
            _draw(axes, arm, largest)
            axes.set_title(arm.name, loc="left", fontsize=9)
            axes.set_xticks(range(tasks), stream.tasks)
            axes.set_yticks(range(stages), ["pretrained", *(f"after {task}" for task in stream.tasks)])
    rows = [
        (arm.name, line.start, line.seed, stage, task, value)
        for arm in stream.arms
        for line in arm.lines
        for stage, row in enumerate(line.matrix.tolist())
        for task, value in zip(stream.tasks, row, strict=True)
    ]
    caption = "Probe × 100, mean over chains. Blue: above the pretrained encoder, orange: below. Outlined: the stage's own task."
    head = ("arm", "start", "seed", "stage", "task", "score")
    return finish(canvas, f"{prefix(stream.stage)}matrix", f"Stream {stream.stage}", caption, head, rows)


def _draw(axes: Axes, arm: StreamArm, largest: float) -> None:
    mean = arm.mean
    for (stage, task), value in np.ndenumerate(mean):
        change = value - mean[0, task]
        depth = DEEPEST * abs(change) / largest if largest and not np.isnan(change) else 0.0
        own = stage == task + 1
        corner = (task - 0.48, stage - 0.46)
        axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor=UP if change > 0 else DOWN, alpha=depth, lw=0))
        if own:
            axes.add_patch(Rectangle(corner, 0.96, 0.92, facecolor="none", edgecolor=TEXT, lw=1.1))
        text = "–" if np.isnan(value) else f"{100 * value:.1f}"
        axes.text(task, stage, text, ha="center", va="center", fontsize=8.5, color=TEXT)
    axes.set_xlim(-0.55, mean.shape[1] - 0.45)
    axes.set_ylim(mean.shape[0] - 0.45, -0.55)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
