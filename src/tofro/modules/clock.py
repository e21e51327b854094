"""How far a run is: progress in [0, 1] by optimizer steps, by tokens or by wall clock.

In: a budget, the steps in one pass over the data, the tokens of each step. Out: :class:`Clock`. Leaves out why a run stops early
(runs/selection.py) and how ranks come to agree on the time (runs/agreement.py).
"""

from __future__ import annotations

import time

from tofro.modules.settings import BudgetSettings

EVALUATE_EVERY = 200  # steps between evaluations where the number of steps is not known beforehand


class Clock:
    """Progress of a run and the length of its evaluation interval.

    Under a budget of steps, epochs or tokens progress is a pure function of the steps done. Under a budget of minutes it is
    elapsed / allowed time, so that a schedule ends when the time does ("cramming", Geiping and Goldstein 2023); such a run is not
    reproducible bit for bit. Time moves for progress only at a :meth:`tick`, so that it is one time for all ranks of a step.
    """

    def __init__(self, budget: BudgetSettings, steps_per_epoch: int) -> None:
        self.steps = budget.steps
        if budget.epochs is not None:
            self.steps = max(1, round(budget.epochs * steps_per_epoch))
        self.seconds = None if budget.minutes is None else 60.0 * budget.minutes
        self.token_budget = budget.tokens
        default = EVALUATE_EVERY if self.steps is None else max(1, self.steps // 10)
        self.evaluate_every = budget.evaluate_every or default
        self.tokens = 0  # real tokens of all global batches so far, special ones included
        self.now = 0.0  # seconds at the last tick
        self._spent = 0.0  # seconds of earlier, interrupted sessions
        self._started: float | None = None

    def start(self) -> None:
        """Start, or start again, counting wall clock."""
        self._started = time.monotonic()
        self.tick(self.elapsed)

    def tick(self, seconds: float) -> None:
        """Set the time that progress goes by."""
        self.now = seconds

    def spend(self, tokens: int) -> None:
        """Count the tokens of a step's global batch."""
        self.tokens += tokens

    @property
    def elapsed(self) -> float:
        """Seconds of training so far on this process' clock, over all sessions."""
        return self._spent + (0.0 if self._started is None else time.monotonic() - self._started)

    @property
    def unit(self) -> str:
        """What the budget is counted in."""
        return "steps" if self.steps is not None else "tokens" if self.token_budget is not None else "seconds"

    def used(self, step: int) -> tuple[float, float]:
        """Return how much of the budget ``step`` finished steps have used, and the budget, in its unit."""
        if self.steps is not None:
            return step, self.steps
        if self.token_budget is not None:
            return self.tokens, self.token_budget
        assert self.seconds is not None
        return self.now, self.seconds

    def progress(self, step: int) -> float:
        """Return the share of the budget that ``step`` finished steps have used, in [0, 1]."""
        used, budget = self.used(step)
        return min(1.0, used / budget)

    def finished(self, step: int) -> bool:
        """Say whether the budget is used up after ``step`` steps."""
        return self.progress(step) >= 1.0

    def evaluates(self, step: int) -> bool:
        """Say whether an evaluation follows step ``step``: every n-th, and the last."""
        return step % self.evaluate_every == 0 or self.finished(step)

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs: the seconds and tokens spent."""
        return {"spent": self.elapsed, "tokens": self.tokens}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from what was spent before."""
        self._spent, self.tokens = state["spent"], int(state["tokens"])
