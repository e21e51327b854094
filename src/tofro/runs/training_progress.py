"""Progress of a training: its steps, or what else its budget is counted in.

In: a trainer's steps. Out: calls of a progress function. Apart from progress.py, which needs neither torch nor Lightning.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from tofro.modules.clock import Clock
from tofro.progress import Progress


class TrainingProgress(pl.Callback):
    """Shows the steps of a fit."""

    def __init__(self, report: Progress, clock: Clock) -> None:
        self.report = report
        self.clock = clock

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Tell the step, or what else the budget is counted in."""
        used, budget = self.clock.used(trainer.global_step)
        self.report(int(used), int(budget))
