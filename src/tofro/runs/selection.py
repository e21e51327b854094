"""Which weights a run keeps and when it stops early: one callback, because the two must agree.

In: the monitored validation metric after each evaluation. Out: the best weights, restored at the end, and a stop once
``patience`` evaluations have brought no improvement. The first of equal values wins; but while the metric stands at the value of
a model that has learnt nothing yet (``module.nothing``), the latest wins and patience is not used up.
"""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch

from tofro.modules.base import TransferModule
from tofro.runs.checkpoint_io import Frozen


class Selection(pl.Callback):
    """Best-weight choice and early stopping on ``module.monitor``; its state travels inside every checkpoint."""

    def __init__(self, patience: int | None, keep_best: bool) -> None:
        self.patience = patience
        self.keep_best = keep_best
        self.best_value: float | None = None
        self.best_step = 0
        self.evaluated_step = -1
        self.without_improvement = 0
        self.best_weights = Frozen()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the new value with the best so far; stop the run when patience is used up."""
        assert isinstance(pl_module, TransferModule)
        value = float(trainer.callback_metrics[pl_module.monitor])
        self.evaluated_step = trainer.global_step
        waits = value == self.best_value == pl_module.nothing
        if waits or self._improves(value, pl_module.mode):
            self.best_value, self.best_step, self.without_improvement = value, trainer.global_step, 0
            if self.keep_best:
                weights = pl_module.moving.items()
                self.best_weights = Frozen({name: value.detach().to("cpu", copy=True) for name, value in weights})
        else:
            self.without_improvement += 1
        if self.patience is not None and self.without_improvement >= self.patience:
            trainer.should_stop = True

    def _improves(self, value: float, mode: str) -> bool:
        if math.isnan(value):
            return False
        if self.best_value is None:
            return True
        return value > self.best_value if mode == "max" else value < self.best_value

    def restore(self, module: TransferModule) -> None:
        """Put the best weights back into ``module``."""
        with torch.no_grad():
            for name, weight in module.moving.items():
                if name in self.best_weights:
                    weight.copy_(self.best_weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the choice so far, weights included, so that one file resumes both."""
        names = ("best_value", "best_step", "evaluated_step", "without_improvement", "best_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the choice where a checkpoint left it."""
        for name, value in state_dict.items():
            setattr(self, name, Frozen(value) if name == "best_weights" else value)
