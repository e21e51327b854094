"""Pretraining from scratch: masked language modelling and a sentence-pair objective on one encoder, ``pre``."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.modules.base import Term, Training, TransferModule
from tofro.modules.fine_tuning import freeze_heads
from tofro.objectives.language import mlm_loss, pair_loss

HEADS_OF = {"mlm_loss": ("mlm",), "pair_loss": ("pooler", "pair")}


class Pretraining(TransferModule):
    """L = w_mlm · L_mlm + w_pair · L_pair (Devlin et al. 2019), each averaged over the whole global batch."""

    monitor = "validation/loss_pre"
    mode = "min"

    def __init__(self, model: Model, objective: ObjectiveSettings, training: Training) -> None:
        super().__init__({"pre": model}, training)
        self.weights = {"mlm_loss": objective.mlm_weight, "pair_loss": objective.pair_weight if objective.pair != "none" else 0.0}
        if not any(self.weights.values()):
            raise ValueError("objective: mlm_weight and pair_weight are both 0, so there is nothing to learn; set one above 0")
        used = [heads for loss, heads in HEADS_OF.items() if self.weights[loss]]
        freeze_heads(model, keep=tuple(head for heads in used for head in heads))
        self.mlm_mean, self.pair_mean = MeanMetric(), MeanMetric()
        self.pair_accuracy = MeanMetric()

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the MLM and pair losses of a micro-batch as sums over global counts."""
        states = self.states("pre", batch)
        values = {}
        if self.weights["mlm_loss"]:
            values["mlm_loss"] = self._mlm(states, batch, self.global_count(batch, "masked"))
        if self.weights["pair_loss"]:
            values["pair_loss"] = self._pair(states, batch, self.global_count(batch, "pairs"))[0]
        return {name: Term(value, self.weights[name]) for name, value in values.items()}

    def _mlm(self, states: Tensor, batch: Batch, count: Tensor | int) -> Tensor:
        assert batch.masked is not None
        assert batch.mask_targets is not None
        model = self.model("pre")
        loss = _compiled_loss() if self.compiled and batch.fillers else masked_loss
        embedding = model.encoder.embeddings.tokens.weight
        return loss(model.heads["mlm"], states.index_select(0, batch.masked), embedding, batch.mask_targets) / count

    def _pair(self, states: Tensor, batch: Batch, count: Tensor | int) -> tuple[Tensor, Tensor]:
        assert batch.pair_labels is not None
        logits = self.model("pre").pair_logits(states, batch)
        return pair_loss(logits, batch.pair_labels, count), (logits.argmax(-1) == batch.pair_labels).float()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate the fixed-mask losses, weighted by how many predictions each batch holds."""
        states = self.states("pre", batch)
        if self.weights["mlm_loss"] and batch.masked is not None:
            count = batch.masked.numel()
            self.mlm_mean.update(self._mlm(states, batch, max(count, 1)), count)
        if self.weights["pair_loss"]:
            loss, hits = self._pair(states, batch, batch.size)
            self.pair_mean.update(loss, batch.size)
            self.pair_accuracy.update(hits)

    def on_validation_epoch_end(self) -> None:
        """Log the means over the held-out split and the weighted total that chooses the best weights."""
        row, total = {}, torch.zeros((), device=self.device)
        for name, mean in (("mlm_loss", self.mlm_mean), ("pair_loss", self.pair_mean)):
            if self.weights[name]:
                row[f"validation/{name}_pre"] = value = mean.compute()
                total = total + self.weights[name] * value
                mean.reset()
        row[self.monitor] = total
        if self.weights["pair_loss"]:
            row["validation/pair_accuracy_pre"] = self.pair_accuracy.compute()
            self.pair_accuracy.reset()
        self.log_dict(row)


def masked_loss(head: nn.Module, states: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss of masked tokens with states (M, D) and original ids ``targets`` (M,); ``embedding`` is (V, D)."""
    return mlm_loss(head(states, embedding), targets, 1)


@functools.cache
def _compiled_loss() -> Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]:
    """Return :func:`masked_loss` compiled: of all that a step computes, the (M, V) logits gain most from fused passes."""
    return torch.compile(masked_loss, dynamic=False)
