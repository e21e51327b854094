"""The report's figure of what a task's gain costs in language: the probe of `pre` over its masked-word loss, an arm a point.

In: the arms on one task. Out: :class:`~tofro.reports.drawing.Figure`. Both axes are changes from the run's own start, means over
runs, so that full fine-tuning, which leaves ``pre`` alone, stands where the lines cross. Imports matplotlib: lazily used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from tofro.reports.arms import FLOORS, Arm, compare_runs, leaves_pre, loss_shares, shifts, trained_probe
from tofro.reports.cells import slug
from tofro.reports.collect import RunRecord
from tofro.reports.drawing import FAINT, PAPER, Figure, add_legend, finish, new_canvas
from tofro.reports.looks import FLOOR, Look
from tofro.reports.verdict import WORST_MLM

Changes = list[tuple[RunRecord, float]]  # (run, × 100)


def exchange_figure(arms: Sequence[Arm], looks: Mapping[str, Look]) -> Figure | None:
    """Change of the trained task's probe over the relative change of held-out MLM loss, for each arm that moves ``pre``.

    None with fewer than two such arms: one point exchanges nothing.
    """
    drawn = [(arm, *found) for arm in arms if arm.method not in FLOORS and not leaves_pre(arm) and (found := changes_of(arm))]
    if len(drawn) < 2:
        return None
    canvas, axes = new_canvas()
    axes.axhline(0, color=FAINT, lw=1, zorder=1)
    axes.axvline(0, color=FAINT, lw=1, zorder=1)
    axes.axvline(100 * WORST_MLM, color=FAINT, lw=1, ls=(0, (1, 2)), zorder=1)
    for arm, losses, probes in drawn:
        _draw_arm(axes, arm, losses, probes, looks.get(arm.key, FLOOR))
    axes.set_xlabel("held-out MLM loss of pre, change in %")
    axes.set_ylabel("probe of pre, change × 100")
    axes.margins(0.08, 0.1)
    add_legend(axes)
    task = arms[0].task
    caption = (
        "Means over runs, with 95% intervals from eight runs on. Where the lines cross is the pretrained encoder. "
        f"Hollow: a null control. Dotted: the {WORST_MLM:.0%} that the verdict allows. Up and to the left is better."
    )
    rows = [
        (run.name, arm.label, loss, probe)
        for arm, losses, probes in drawn
        for (run, loss), (_, probe) in zip(losses, probes, strict=True)
    ]
    head = ("run", "arm", "mlm_loss_change_percent", "probe_change_points")
    return finish(canvas, f"exchange-{slug(task)}", f"What {task} gave pre, and took", caption, head, rows)


def changes_of(arm: Arm) -> tuple[Changes, Changes] | None:
    """Return each run's changes of MLM loss and of the trained task's probe, × 100; None where no run has both."""
    probe = trained_probe(arm)
    gained = {} if probe is None else {run.id: 100 * (after - before) for run, before, after in shifts(arm, probe)}
    losses = [(run, 100 * share) for run, share in loss_shares(arm) if run.id in gained]
    return (losses, [(run, gained[run.id]) for run, _ in losses]) if losses else None


def _draw_arm(axes: Axes, arm: Arm, losses: Changes, probes: Changes, look: Look) -> None:
    """A marker at the means, hollow for a null control, on a cross of intervals."""
    across, up = compare_runs(losses), compare_runs(probes)
    if across.interval is not None:
        axes.plot([across.interval.low, across.interval.high], [up.mean] * 2, color=look.colour, lw=1, alpha=0.7, zorder=2)
    if up.interval is not None:
        axes.plot([across.mean] * 2, [up.interval.low, up.interval.high], color=look.colour, lw=1, alpha=0.7, zorder=2)
    face = PAPER if arm.controls else look.colour
    axes.scatter(
        [across.mean], [up.mean], s=38, c=[face], marker=look.marker, lw=1.2, edgecolor=look.colour, zorder=3, label=arm.label
    )
