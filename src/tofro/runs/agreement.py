"""What all ranks must see alike at a step though each has its own: a stop signal, and the time.

In: this process' signal and clock. Out: at the end of every optimizer step, one signal (the largest) and one time (the first
rank's) for all. Leaves out what follows from a signal (runs/checkpoints.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from tofro.batches.types import Batch
from tofro.modules.clock import Clock
from tofro.runs import ranks, signals


class Agreement(pl.Callback):
    """Stands first among the callbacks, so that the others know what was agreed.

    Several ranks exchange two numbers over the CPU while the step computes: sent when it begins, awaited when it ends, so that
    neither the device nor the step waits. A signal that comes in between is heard at the end of the next step.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.stop = 0  # the signal that all ranks obey at this step; 0 where there is none
        self._answer: Callable[[], list[float]] | None = None
        self._shared = 0  # evaluation batches that every rank has

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and set it by the first rank's."""
        self.clock.start()
        self.clock.tick(ranks.from_first(self.clock.elapsed))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        """Tell the other ranks, and go on."""
        if ranks.world_size() > 1 and batch_idx % trainer.accumulate_grad_batches == 0:
            self._answer = ranks.largest_later(self._own())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Know what was agreed, at the end of an optimizer step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            stop, seconds = self._own() if self._answer is None else self._answer()
            self.stop, self._answer = int(stop), None
            self.clock.tick(seconds)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out how many batches all ranks have; only after one of these can they agree."""
        (fewest,) = ranks.largest([-float(trainer.num_val_batches[0])])
        self._shared = int(-fewest)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *unused: Any
    ) -> None:
        """Agree between the batches of an evaluation."""
        if batch_idx < self._shared:
            self.stop = int(ranks.largest([signals.noted()])[0])

    def _own(self) -> list[float]:
        return [signals.noted(), self.clock.elapsed if ranks.is_first() else 0.0]
