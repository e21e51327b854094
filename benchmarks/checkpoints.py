"""Share of a pretraining's time that goes into checkpoints at their default cadence.

A mini encoder through the run's own fit, a little longer than trainer.checkpoint_every; the fit reports what its loop waited for
checkpoints (cost.checkpoint_seconds of a run's result.json). The last step's checkpoint counts too, so this is an upper bound.
"""

from __future__ import annotations

from benchmarks import ours
from benchmarks.material import Options
from benchmarks.report import Row
from tofro.runs.settings import TrainerSettings

BATCH, LENGTH, MORE, GOAL = 16, 128, 50, 3.0


def run(options: Options) -> list[Row]:
    """Return one row."""
    every = options.times(TrainerSettings().checkpoint_every)
    steps, size = every + options.times(MORE), options.size("mini")
    context = options.context(
        "method=pretrain",
        f"encoder={size}",
        f"budget.batch={BATCH}",
        f"objective.length={LENGTH}",
        "trainer.accelerator=cpu",
        f"budget.steps={steps}",
        f"trainer.checkpoint_every={every}",
    )
    report = ours.fitted(ours.pretraining(context))
    share = 100 * report.checkpoint_seconds / report.seconds
    note = f"{report.checkpoint_seconds:.2f} s of {report.seconds:.1f} s: 2 checkpoints in {steps} steps of {BATCH} × {LENGTH}"
    return [Row("checkpoints", f"{size}, every {every} steps", share, "%", goal=GOAL, at_most=True, note=note)]
