"""Checkpoints as verified directories: written beside their target, synced, renamed; the newest intact one resumes a run.

``checkpoints/step-<n>/`` holds ``state.ckpt`` (Lightning's state, tensors and plain values only) and ``manifest.json`` (its
sha256). Leaves out signals and asynchronous writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from tofro.batches.types import Batch
from tofro.modules.clock import Clock

KEEP = 2  # checkpoints on disk: the newest, and one to fall back on


class Checkpoints(pl.Callback):
    """Saves every ``every`` steps and at the last, and runs an evaluation that an interrupted run still owes.

    A checkpoint at an evaluation step is written before the evaluation, so it records that the evaluation is owed; Lightning
    alone would skip it on resume. The budget's end is decided here too: the run stops at the step that uses it up, evaluated.
    """

    def __init__(self, folder: Path, clock: Clock, every: int) -> None:
        self.folder = folder
        self.clock = clock
        self.every = every
        self.owed = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pay an evaluation that is owed, then stop at once if nothing is left to train."""
        self.clock.start()
        if self.owed:
            self.owed = False
            # As Lightning's training loop enters an evaluation; from the first batch, whatever its counters were loaded with.
            evaluation = trainer.fit_loop.epoch_loop.val_loop
            evaluation.restarting = False
            trainer.validating = True
            evaluation.run()
            trainer.training = True
        if self.clock.finished(trainer.global_step):
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save when due; ask for the final evaluation and the end when the budget is used up."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        finished = self.clock.finished(step)
        if finished or step % self.every == 0:
            self.owed = finished or self.clock.evaluates(step)
            self.save(trainer)
            self.owed = False
        if finished:
            trainer.should_stop = True  # Lightning evaluates once more before it leaves the loop

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint of the current step and forget the oldest."""
        target = self.folder / f"step-{trainer.global_step:08d}"
        beside = self.folder / f".writing-{target.name}"
        if trainer.is_global_zero:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        trainer.save_checkpoint(beside / "state.ckpt")
        if trainer.is_global_zero:
            manifest = {"step": trainer.global_step, "sha256": {"state.ckpt": file_hash(beside / "state.ckpt")}}
            (beside / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
            for path in (*beside.iterdir(), beside):
                sync(path)
            shutil.rmtree(target, ignore_errors=True)
            beside.rename(target)
            sync(self.folder)
            for old in sorted(self.folder.glob("step-*"))[:-KEEP]:
                shutil.rmtree(old)

    def state_dict(self) -> dict[str, Any]:
        """Return the debt and the time spent."""
        return {"owed": self.owed, "clock": self.clock.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the debt and the time spent."""
        self.owed = state_dict["owed"]
        self.clock.load_state_dict(state_dict["clock"])


def newest_intact(folder: Path) -> Path | None:
    """Return the state file of the newest checkpoint whose hash is right, or None where there is no checkpoint.

    A damaged one is renamed to ``damaged-…`` with a warning. Where every checkpoint is damaged, ValueError: a run never starts
    afresh in silence.
    """
    found = sorted(folder.glob("step-*"), reverse=True)
    for candidate in found:
        if _intact(candidate):
            return candidate / "state.ckpt"
        set_aside = candidate.with_name(f"damaged-{candidate.name}")
        candidate.rename(set_aside)
        warnings.warn(f"checkpoint {set_aside} does not match its manifest and was set aside", stacklevel=2)
    if found:
        raise ValueError(f"{folder}: every checkpoint is damaged; delete the run folder to start it afresh")
    return None


def _intact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all(file_hash(folder / name) == digest for name, digest in manifest["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False


def file_hash(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never points at nothing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
