"""Assembles Lightning's Trainer for a run and fits a module: the one place where training starts.

In: a module, its data, the neutral trainer settings, a run folder. Out: the module with its best weights, and :class:`FitReport`.
Leaves out which module and which data (runs/methods.py).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from tofro.modules.base import TransferModule
from tofro.modules.settings import BudgetSettings
from tofro.runs import ranks
from tofro.runs.agreement import Agreement
from tofro.runs.checkpoint_io import VerifiedIO, newest_intact
from tofro.runs.checkpoints import Checkpoints
from tofro.runs.counting import FlopCounting, Waiting
from tofro.runs.devices import placement
from tofro.runs.precision import warn_of_precision
from tofro.runs.progress import progress
from tofro.runs.record import Recorder
from tofro.runs.selection import Selection
from tofro.runs.settings import TrainerSettings
from tofro.runs.signals import listening, patiently
from tofro.runs.training_progress import TrainingProgress

GRAPHS = 64  # compiled forms of a layer


@dataclass(frozen=True)
class FitReport:
    """What a fit took and chose. ``seconds`` are all of training; steps waited ``waiting_seconds`` for their batches and
    ``checkpoint_seconds`` for checkpoints. ``peak_memory_mb`` is that of another process, where one trained before.
    """

    steps: int
    best_step: int
    best_value: float | None
    tokens: int
    seconds: float
    flops: float
    checkpoint_seconds: float
    waiting_seconds: float
    peak_memory_mb: float = 0.0


@dataclass(frozen=True)
class FitPlace:
    """Where a fit leaves its traces and to whom it shows them."""

    folder: Path
    trainer: TrainerSettings
    loggers: tuple[Logger, ...] = ()
    callbacks: tuple[pl.Callback, ...] = ()
    label: str = "training"
    unused_parameters: bool = False  # some have no gradient at some steps


def fit(module: TransferModule, data: pl.LightningDataModule, budget: BudgetSettings, place: FitPlace) -> FitReport:
    """Train ``module`` until the budget or its patience ends, resuming from the newest intact checkpoint where there is one.

    A stop signal saves, then raises ``signals.Stopped``.
    """
    clock, record = module.training_settings.clock, place.folder / "metrics.jsonl"
    warn_of_precision(budget, place.trainer.accelerator)
    prepare(module, place.trainer)
    agreement, io = Agreement(clock), VerifiedIO(needs=[record])
    recorder = Recorder(record, clock, place.trainer.log_every, budget.max_skipped)
    counting, waiting, selection = FlopCounting(clock), Waiting(), Selection(budget.patience, budget.best)
    checkpoints = Checkpoints(place.folder / "checkpoints", clock, place.trainer, io, agreement)
    resume = ranks.from_first(newest_intact(checkpoints.folder) if ranks.is_first() else None)
    with progress(place.label, clock.unit, place.trainer.progress) as report, quiet(), listening(), patiently():
        shown = TrainingProgress(report, clock)
        # Agreement stands before those who go by it, the recorder before the checkpoints, which store how long its file is.
        callbacks = [agreement, counting, recorder, selection, shown, *place.callbacks, checkpoints, waiting]
        trainer = assemble(budget, place, callbacks, io, clock.evaluate_every * budget.accumulate)
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    selection.restore(module)
    return FitReport(
        steps=trainer.global_step,
        best_step=selection.best_step,
        best_value=selection.best_value,
        tokens=clock.tokens,
        seconds=clock.elapsed,
        flops=counting.flops(clock.tokens),
        checkpoint_seconds=checkpoints.seconds,
        waiting_seconds=waiting.seconds,
    )


def prepare(module: TransferModule, settings: TrainerSettings) -> None:
    """Make the module's encoders run as the neutral settings say; what they compute stays the same."""
    if settings.compile:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise ValueError(f"trainer.compile: there is no C++ compiler {compiler} here; install one, or leave compile out")
        from torch._dynamo import config as dynamo  # takes a second to import

        # One graph for each size of batch, and torch would give up after eight. What is beyond the limit runs uncompiled.
        dynamo.recompile_limit = max(dynamo.recompile_limit, GRAPHS)
        if settings.gradients_every is not None:  # backward passes that only measure come before the one that counts
            from torch._functorch import config as functorch

            functorch.donated_buffer = False
    for name in module.models:
        encoder = module.model(name).encoder
        encoder.checkpointing = settings.activation_checkpointing
        if settings.compile:
            encoder.compile_layers()


def assemble(
    budget: BudgetSettings, place: FitPlace, callbacks: list[pl.Callback], io: VerifiedIO, evaluate_every: int
) -> pl.Trainer:
    """Return the Trainer. The budget alone ends it: Lightning sees endless data and no limit of its own (contract 10)."""
    settings = place.trainer
    trainer = pl.Trainer(
        **placement(settings, place.unused_parameters),
        precision="bf16-mixed" if budget.precision == "bf16" else "32-true",
        max_steps=-1,
        max_epochs=-1,
        min_epochs=0,
        val_check_interval=evaluate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accumulate_grad_batches=budget.accumulate,
        use_distributed_sampler=False,
        deterministic=settings.deterministic,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=list(place.loggers) or False,
        callbacks=callbacks,
        plugins=[io],
        default_root_dir=place.folder,
        **settings.fit,
    )
    _keep_signals(trainer)
    return trainer


def _keep_signals(trainer: pl.Trainer) -> None:
    """Leave stop signals to signals.py.

    Lightning's own handler of SIGTERM saves nothing and exits 0, its SLURM handler puts a checkpoint where no resume looks for
    it, and with several ranks it asks the device at every step whether there was a signal.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


LIGHTNING_LOGGERS = ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning", "lightning.fabric")


class quiet:
    """Keep Lightning's banners and its advice about loaders out of the terminal; errors pass."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in LIGHTNING_LOGGERS]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*lightning.*", category=UserWarning)

    def __exit__(self, *exception: object) -> None:
        self._warnings.__exit__(*exception)  # type: ignore[arg-type]
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)


def set_threads(settings: TrainerSettings) -> None:
    """Set torch's threads where the user asked for a number."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)


def now() -> float:
    """Return a clock in seconds that only differences of mean anything."""
    return time.monotonic()
