"""When a run saves, what it still owes when it resumes, and where it ends: at its budget's last step, or at a stop signal.

In: the clock, what was agreed about signals, a :class:`VerifiedIO` under the trainer. Out: checkpoint folders, ``should_stop``,
:class:`Stopped`. Leaves out how a checkpoint gets to the disk (runs/checkpoint_io.py).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from tofro.batches.types import Batch
from tofro.modules.clock import Clock
from tofro.runs import ranks
from tofro.runs.agreement import Agreement
from tofro.runs.checkpoint_io import VerifiedIO
from tofro.runs.settings import TrainerSettings
from tofro.runs.signals import Stopped


class Checkpoints(pl.Callback):
    """Saves at a cadence, at the last step and at a stop signal, and runs an evaluation that an interrupted run still owes.

    A checkpoint at an evaluation step stands before the evaluation, so it records that the evaluation is owed; Lightning alone
    would skip it on resume. The budget's end is decided here too: the run stops at the step that uses it up, evaluated.
    ``seconds`` is what the training loop has waited for checkpoints.
    """

    def __init__(self, folder: Path, clock: Clock, cadence: TrainerSettings, io: VerifiedIO, agreement: Agreement) -> None:
        self.folder = folder
        self.clock = clock
        self.every = cadence.checkpoint_every
        self.every_seconds = None if cadence.checkpoint_minutes is None else 60.0 * cadence.checkpoint_minutes
        self.io = io
        self.agreement = agreement
        self.owed = False
        self.seconds = 0.0
        self._saved = -1  # the step of the newest checkpoint
        self._saved_at = 0.0  # the clock when it was made
        self._resumed = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pay an evaluation that is owed, then stop at once if nothing is left to train."""
        if self._resumed:
            self._saved, self._saved_at = trainer.global_step, self.clock.now
        if self.owed:
            # As Lightning's training loop enters an evaluation; from the first batch, whatever its counters were loaded with.
            evaluation = trainer.fit_loop.epoch_loop.val_loop
            evaluation.restarting = False
            trainer.validating = True
            evaluation.run()
            trainer.training = True
            self.owed = False
        if self.clock.finished(trainer.global_step):
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save when due; leave at a signal; ask for the final evaluation and the end when the budget is used up."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        finished, self.owed = self.clock.finished(step), self.clock.evaluates(step)
        if finished or self._due(step):
            self.save(trainer)
        self._leave_if_agreed(trainer)
        self.io.check()
        if finished:
            trainer.should_stop = True  # Lightning evaluates once more before it leaves the loop

    def on_validation_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        """Leave at a signal; the whole evaluation is owed."""
        self._leave_if_agreed(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The evaluation has been paid."""
        self.owed = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Be sure of the last checkpoint before the run goes on."""
        self._timed(self._settle)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let a run that was told twice to stop leave a checkpoint half written."""
        if isinstance(exception, Stopped) and exception.at_once:
            self.io.abandon()

    def save(self, trainer: pl.Trainer) -> None:
        """Hand a checkpoint of the current step to the thread that writes it, once the one before is on the disk."""
        self._saved, self._saved_at = trainer.global_step, self.clock.now
        self._timed(lambda: trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:08d}"))

    def _due(self, step: int) -> bool:
        late = self.every_seconds is not None and self.clock.now - self._saved_at >= self.every_seconds
        return late or step % self.every == 0

    def _leave_if_agreed(self, trainer: pl.Trainer) -> None:
        if not self.agreement.stop:
            return
        if self._saved != trainer.global_step:
            self.save(trainer)
        self._timed(self._settle)
        raise Stopped(self.agreement.stop)

    def _settle(self) -> None:
        self.io.wait()
        ranks.wait()  # no rank leaves before the first one has written

    def _timed(self, act: Any) -> None:
        started = time.perf_counter()
        try:
            act()
        finally:
            self.seconds += time.perf_counter() - started

    def state_dict(self) -> dict[str, Any]:
        """Return the debt, what was spent of the budget, and the cost of checkpoints."""
        return {"owed": self.owed, "clock": self.clock.state_dict(), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the debt and the accounts."""
        self.owed, self.seconds, self._resumed = state_dict["owed"], state_dict["seconds"], True
        self.clock.load_state_dict(state_dict["clock"])
