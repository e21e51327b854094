"""How a model's output for a task comes about: what stands between the states of a batch and the task's loss.

In: a model, its states. Out: logits (B, C), scores (B,), or logits of words (W, C). :class:`HeadOutput` asks the task head;
asking the head for masked words instead is cloze_output.py.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tofro.batches.types import Batch
from tofro.encoders.model import Model


class Output(Protocol):
    """What training and evaluation need to know of it."""

    def heads(self, model: Model) -> tuple[str, ...]:
        """Return the names of the heads that the output goes through."""

    def logits(self, model: Model, states: Tensor, batch: Batch) -> Tensor:
        """Return the output for a batch from the states (T, D) of its tokens."""


class HeadOutput:
    """The output of the model's task head."""

    def heads(self, model: Model) -> tuple[str, ...]:
        """Return the task head, and the pooler where it stands before it."""
        return model.task_heads

    def logits(self, model: Model, states: Tensor, batch: Batch) -> Tensor:
        """Return what the task head says."""
        return model.task_logits(states, batch)
