"""metrics.jsonl, the truth of a run: every optimizer step and every evaluation exactly once, after any number of resumes.

In: the rows that a module notes on the device. Out: one JSON object a line, ``{"step", "seconds", "<split>/<what>": number}``.
A number that is not finite is null. Dashboards are views: each row written is also handed to the trainer's loggers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from tofro.batches.types import Batch
from tofro.modules.base import Row, TransferModule
from tofro.modules.clock import Clock
from tofro.runs import ranks
from tofro.runs.loggers import View


class Recorder(pl.Callback):
    """Writes rows ``every`` steps, so that the step itself never waits for the device.

    Its state is the length of the file: a resumed run cuts off what an interrupted one wrote after its last checkpoint. What it
    reads it also judges: after ``max_skipped`` steps in a row that were not finite, ValueError.
    """

    def __init__(self, path: Path, clock: Clock, every: int, max_skipped: int) -> None:
        self.path = path
        self.clock = clock
        self.every = every
        self.max_skipped = max_skipped
        self.skipped = 0  # steps in a row, up to the last one written
        self._resumed = False
        self._waiting: list[tuple[int, float, Row]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start an empty file; after a resume hand what the file has kept to trackers that start empty."""
        if not trainer.is_global_zero:
            return
        if not self._resumed:
            self.path.write_bytes(b"")
            return
        empty = [logger for logger in trainer.loggers if isinstance(logger, View) and logger.starts_empty]
        if empty:
            rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            for view in empty:
                view.show(rows)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the finished step's row, on the device; write the waiting rows every so often."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        assert isinstance(pl_module, TransferModule)
        self._waiting.append((trainer.global_step, self.clock.elapsed, pl_module.pop_row()))
        if len(self._waiting) >= self.every:
            self.flush(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the evaluation's row."""
        self.flush(trainer)
        row = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("validation/")}
        self._write(trainer, [{"step": trainer.global_step, "seconds": round(self.clock.elapsed, 3), **row}])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what still waits."""
        self.flush(trainer)

    def flush(self, trainer: pl.Trainer) -> None:
        """Bring the waiting rows to the host in one transfer, add up what the ranks hold, and write them."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        device = waiting[0][2].values["train/loss"].device
        flat = torch.stack([value.float().to(device) for *_, row in waiting for value in row.values.values()]).tolist()
        summed = [
            place for place, is_part in enumerate(name in row.summed for *_, row in waiting for name in row.values) if is_part
        ]
        for place, value in zip(summed, ranks.total([flat[place] for place in summed]), strict=True):
            flat[place] = value
        numbers = iter(flat)
        rows: list[dict[str, Any]] = []
        for step, seconds, noted in waiting:
            values = {name: next(numbers) for name in noted.values}
            values |= {name: values[name] ** 0.5 for name in noted.rooted}
            rows.append({"step": step, "seconds": round(seconds, 3), **values})
        self._write(trainer, rows)
        for row in rows:
            self.skipped = self.skipped + 1 if row["train/skipped"] else 0
            if self.skipped >= self.max_skipped:
                raise ValueError(
                    f"{self.path}: the loss or gradient of {self.skipped} steps in a row, up to step {row['step']}, was not "
                    "finite; they were skipped and the weights are sound. Lower optimizer.lr, or raise budget.max_skipped"
                )

    def _write(self, trainer: pl.Trainer, rows: list[dict[str, Any]]) -> None:
        if not trainer.is_global_zero:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(as_json(row) + "\n" for row in rows)
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror or error}; make room, and the same command resumes") from error
        for logger in trainer.loggers:
            if isinstance(logger, View):
                logger.show(rows)
                continue
            for row in rows:
                logger.log_metrics({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make the file complete before its length goes into the checkpoint, whose writer brings it to the disk first."""
        self.flush(trainer)
        length = self.path.stat().st_size if self.path.exists() else 0
        checkpoint["tofro_record"] = {"bytes": length, "skipped": self.skipped}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Cut the file back to the checkpoint."""
        state = checkpoint["tofro_record"]
        self._resumed = True
        self.skipped = state["skipped"]
        if trainer.is_global_zero:
            with self.path.open("ab") as file:
                file.truncate(state["bytes"])


def as_json(row: dict[str, Any]) -> str:
    """Return a row as one JSON object; JSON has no NaN and no infinity, so they become null."""
    finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(finite, allow_nan=False)
