"""What a two-way step costs beside the one-way step of the same task, batches and dropout.

Both through the run's own fit, in turn, in processes of their own; the number is the ratio of their times for a token. With every
parameter of both encoders updated 2 is the limit: all that is computed is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import ours
from benchmarks.apart import apart
from benchmarks.material import Options
from benchmarks.report import Row, number
from benchmarks.timing import Window, alternate, ratios, spread

SIZE, BATCH, WARM, STEPS, ROUNDS = "mini", 32, 5, 30, 5


@dataclass(frozen=True)
class Case:
    """A way of coupling two encoders, and at most how many times one-way's time a step should take."""

    name: str
    goal: float | None
    overrides: tuple[str, ...]


CASES = (
    Case("infonce, both updated", 2.1, ()),
    Case("shared_trunk, half the layers", 1.6, ("alignment.shared_trunk=2",)),
    Case("every=2", 1.6, ("alignment.every=2",)),
    Case("to_ft, pre frozen", None, ("alignment.direction=to_ft",)),
    Case("EMA feedback", 1.1, ("alignment.weight=0", "alignment.ema=0.999")),
    Case("replay on every step", None, ("regularizer=replay",)),
)


def run(options: Options) -> list[Row]:
    """Return a row per case; all of them share the rounds."""
    cases = options.cases(CASES) if options.quick else CASES
    with apart(a_side, options, ("method=full",)) as one_way:
        rows = []
        for case in cases:
            with apart(a_side, options, ("method=two_way", *case.overrides)) as both_ways:
                found = alternate({"both ways": both_ways, "one way": one_way}, options.times(ROUNDS))
            rows.append(row(options, case, {name: [window.rate for window in each] for name, each in found.items()}))
    return rows


def row(options: Options, case: Case, rates: dict[str, list[float]]) -> Row:
    """Return a case's row: times for a token, one way's rate over both ways'."""
    value, low, high = ratios(rates["one way"], rates["both ways"])
    medians = [number(spread(each)[0], "") for each in (rates["both ways"], rates["one way"])]
    rounds, steps = options.times(ROUNDS), options.times(STEPS)
    note = f"time over one way's; tokens/s of the task; {rounds} rounds of {steps} steps of {BATCH} texts; dropout 0.1"
    return Row("two_way", f"{options.size(SIZE)}, {case.name}", value, "×", low, high, case.goal, True, *medians, note, rates)


def a_side(options: Options, overrides: tuple[str, ...]) -> Callable[[], Window]:
    """Set one method up."""
    size = [f"encoder={options.size(SIZE)}", f"budget.batch={BATCH}", "trainer.accelerator=cpu"]
    if options.quick:
        overrides = tuple(each.replace("shared_trunk=2", "shared_trunk=1") for each in overrides)
    job = ours.adaptation(options.context(*options.task_overrides, *size, *overrides))
    return lambda: ours.train(job, options.times(WARM), options.times(STEPS))
