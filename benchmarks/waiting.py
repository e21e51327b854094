"""Share of a pretraining's time that steps wait for their batches, with batches built in the run's own process and by workers.

A mini encoder through the run's own fit; the fit reports what it waited (cost.waiting_seconds of a run's result.json).
"""

from __future__ import annotations

from benchmarks import ours
from benchmarks.material import Options
from benchmarks.report import Row

BATCH, LENGTH, STEPS, GOAL = 16, 128, 100, 3.0
WORKERS = (0, 2)


def run(options: Options) -> list[Row]:
    """Return a row per number of workers."""
    return [measure(options, workers) for workers in WORKERS]


def measure(options: Options, workers: int) -> Row:
    """Measure one number of workers."""
    size, steps = options.size("mini"), options.times(STEPS)
    context = options.context(
        "method=pretrain",
        f"encoder={size}",
        f"budget.batch={BATCH}",
        f"objective.length={LENGTH}",
        "trainer.accelerator=cpu",
        f"trainer.workers={workers}",
    )
    stopwatch = ours.Stopwatch(1, steps - 1)
    report = ours.fitted(ours.pretraining(context), stopwatch)
    seconds = stopwatch.window.seconds
    share = 100 * report.waiting_seconds / seconds
    note = f"{report.waiting_seconds:.3f} s of {seconds:.1f} s, steps 2 to {report.steps} of {BATCH} × {LENGTH}"
    return Row("waiting", f"{size}, {workers} workers", share, "%", goal=GOAL, at_most=True, note=note)
