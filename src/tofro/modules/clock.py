"""How far a run is: progress in [0, 1] by optimizer steps or by wall clock.

In: a budget and the steps in one pass over the data. Out: :class:`Clock`. Leaves out why a run stops early (runs/selection.py).
"""

from __future__ import annotations

import time

from tofro.modules.settings import BudgetSettings


class Clock:
    """Progress of a run and the length of its evaluation interval.

    Under a step budget progress is step / steps, a pure function. Under a budget of minutes it is elapsed / allowed time, so that
    a schedule ends when the time does ("cramming", Geiping and Goldstein 2023); such a run is not reproducible bit for bit.
    """

    def __init__(self, budget: BudgetSettings, steps_per_epoch: int) -> None:
        self.steps = budget.steps
        if budget.epochs is not None:
            self.steps = max(1, round(budget.epochs * steps_per_epoch))
        self.seconds = None if budget.minutes is None else 60.0 * budget.minutes
        default = 200 if self.steps is None else max(1, self.steps // 10)
        self.evaluate_every = budget.evaluate_every or default
        self._spent = 0.0  # seconds of earlier, interrupted sessions
        self._started: float | None = None

    def start(self) -> None:
        """Start, or start again, counting wall clock."""
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all sessions."""
        return self._spent + (0.0 if self._started is None else time.monotonic() - self._started)

    def progress(self, step: int) -> float:
        """Return the share of the budget that ``step`` finished steps have used, in [0, 1]."""
        share = step / self.steps if self.steps is not None else self.elapsed / (self.seconds or 1.0)
        return min(1.0, share)

    def finished(self, step: int) -> bool:
        """Say whether the budget is used up after ``step`` steps."""
        return self.progress(step) >= 1.0

    def evaluates(self, step: int) -> bool:
        """Say whether an evaluation follows step ``step``: every n-th, and the last."""
        return step % self.evaluate_every == 0 or self.finished(step)

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs: the seconds spent."""
        return {"spent": self.elapsed}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from the seconds spent before."""
        self._spent = state["spent"]
