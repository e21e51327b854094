"""What training costs beside time: floating-point operations, and the time that steps wait for their batches.

In: the steps of a fit. Out: FLOPs per token, forward and backward, of the steps sampled, times all tokens; seconds of waiting.
Leaves out optimizer and element-wise work, which torch's counter does not see.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch

from tofro.batches.order import below, key
from tofro.batches.types import Batch
from tofro.measures.cost import FlopCounter
from tofro.modules.base import TransferModule
from tofro.modules.clock import Clock

SAMPLES = 8  # steps counted under a step budget: schedules and `alignment.every` make steps differ
EVERY = 200  # steps to one counted step under a budget of minutes


STREAM = key("flops")


class FlopCounting(pl.Callback):
    """Counts one step of every eighth of the run, at a random place in it, so that no rhythm of the method misleads."""

    def __init__(self, clock: Clock) -> None:
        self.every = EVERY if clock.steps is None else max(1, clock.steps // SAMPLES)
        self.counted_flops = 0
        self.counted_tokens = 0
        self._counting = ExitStack()
        self._mode: FlopCounter | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        """Start counting where this step is in the sample."""
        assert isinstance(pl_module, TransferModule)
        block, place = divmod(trainer.global_step, self.every)
        if place == below(self.every, STREAM, block):
            self._counting = ExitStack()
            if pl_module.compiled:  # compiled code called under a mode would run uncompiled for good
                self._counting.enter_context(torch.compiler.set_stance("force_eager"))
            self._mode = self._counting.enter_context(FlopCounter())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Stop counting."""
        if self._mode is not None:
            self._counting.close()
            self.counted_flops += self._mode.get_total_flops()
            self.counted_tokens += batch.length
            self._mode = None

    def flops(self, tokens: int) -> float:
        """Return the estimate for ``tokens`` tokens."""
        return self.counted_flops / max(1, self.counted_tokens) * tokens

    def state_dict(self) -> dict[str, int]:
        """Return the counts so far."""
        return {"flops": self.counted_flops, "tokens": self.counted_tokens}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue the counts."""
        self.counted_flops, self.counted_tokens = state_dict["flops"], state_dict["tokens"]


class Waiting(pl.Callback):
    """Sums the seconds from the end of a micro-batch to the arrival of the next, its way to the device included.

    Measured on the host: where a device is behind, part of it costs nothing. Stands last among the callbacks, so that neither
    what they do at the end of a step nor evaluations are in it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        """The batch is there."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *unused: Any) -> None:
        """Wait for the next."""
        self._since = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An evaluation stood between; wait from now on."""
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, float]:
        """Return the seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue the sum."""
        self.seconds = state_dict["seconds"]
