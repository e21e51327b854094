"""tofro's side: a module and its data as a run makes them, trained by the run's own fit for a few timed steps.

In: a run's context. Out: :class:`Job`, and the :class:`~benchmarks.timing.Window` of its timed steps. Evaluation is off and no
checkpoint falls due, as on the peer's side.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from benchmarks.timing import Window
from tofro.batches.datamodules import PretrainingData, TaskData
from tofro.batches.types import Batch
from tofro.modules.base import TransferModule
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.pretraining import Pretraining
from tofro.runs.context import Context
from tofro.runs.fit import FitPlace, FitReport, fit
from tofro.runs.memory import keep_large_buffers
from tofro.runs.pairing import pair_up


@dataclass(frozen=True)
class Job:
    """A module, its data and the context that they come from."""

    module: TransferModule
    data: Any
    context: Context

    def batches(self, steps: int) -> list[Batch]:
        """Return the batches of the first ``steps`` steps, one micro-batch each."""
        return [batch for step in range(steps) for batch in self.data.steps[step]]


def pretraining(context: Context) -> Job:
    """Return a pretraining from scratch."""
    start, objective = context.start, context.settings("objective")
    model = copy.deepcopy(start.model)
    model.dropout = context.config.method.dropout
    data = PretrainingData(context.store("train"), context.store("validation"), start.tokenizer, objective, context.loading())
    return Job(Pretraining(model, objective, context.training(data.steps_per_epoch)), data, context)


def fine_tuning(context: Context) -> Job:
    """Return a full fine-tuning of an encoder with random weights, which costs what a pretrained one does."""
    task = context.task
    data = TaskData(task.splits, task.labels, context.start.tokenizer, context.config.task.max_length, context.loading())
    return Job(FineTuning(context.model_for_task(), task, context.training(data.steps_per_epoch)), data, context)


def adaptation(context: Context) -> Job:
    """Return a fine-tuning, one way or both ways, as the config's method trains it, of encoders with random weights."""
    if context.config.method.name == "full":
        return fine_tuning(context)
    module, data = pair_up(context.settings("method"), context)
    return Job(module, data, context)


class Stopwatch(pl.Callback):
    """Times ``steps`` steps after ``warm`` others, then ends the training."""

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps = warm, steps
        self.window = Window()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Start, count and stop."""
        step = trainer.global_step
        if step == self.warm:
            self.window.start()
        elif self.warm < step <= self.warm + self.steps:
            self.window.add(batch.counts["tokens"], batch.tokens.numel())
        if step == self.warm + self.steps:
            self.window.stop()
            trainer.should_stop = True


def fitted(job: Job, *callbacks: pl.Callback) -> FitReport:
    """Carry out a fit of its own in a temporary folder, without evaluations, in a process set up as a run's is."""
    keep_large_buffers()
    settings = job.context.settings("trainer")
    settings.progress = False
    settings.fit = {"limit_val_batches": 0}
    with tempfile.TemporaryDirectory() as folder:
        return fit(job.module, job.data, job.context.settings("budget"), FitPlace(Path(folder), settings, callbacks=callbacks))


def train(job: Job, warm: int, steps: int) -> Window:
    """Train for ``warm`` steps and then ``steps`` timed ones."""
    stopwatch = Stopwatch(warm, steps)
    fitted(job, stopwatch)
    return stopwatch.window
