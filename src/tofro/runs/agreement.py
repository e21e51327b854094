"""What all ranks must see alike at a step though each has its own: a stop signal, and the time.

In: this process' signal and clock. Out: at the end of every optimizer step, one signal (the largest) and one time (the first
rank's) for all. Leaves out what follows from a signal (runs/checkpoints.py).
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from tofro.batches.types import Batch
from tofro.modules.clock import Clock
from tofro.runs import signals


class Agreement(pl.Callback):
    """Stands first among the callbacks, so that the others know what was agreed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.stop = 0  # the signal that all ranks obey at this step; 0 where there is none

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.clock.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Agree at the end of an optimizer step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.stop = signals.noted()
            self.clock.tick(self.clock.elapsed)

    def on_validation_batch_end(self, *unused: Any) -> None:
        """Agree between the batches of an evaluation."""
        self.stop = signals.noted()
