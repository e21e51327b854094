"""Pretraining from scratch: masked language modelling and a sentence-pair objective on one encoder, ``pre``."""

from __future__ import annotations

import torch
from torchmetrics import MeanMetric

from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.modules.base import Training, TransferModule
from tofro.modules.fine_tuning import freeze_heads
from tofro.modules.language import language_heads, language_weights, mlm_term, pair_term
from tofro.modules.terms import Term


class Pretraining(TransferModule):
    """L = w_mlm · L_mlm + w_pair · L_pair (Devlin et al. 2019), each averaged over the whole global batch."""

    monitor = "validation/loss_pre"
    mode = "min"

    def __init__(self, model: Model, objective: ObjectiveSettings, training: Training) -> None:
        super().__init__({"pre": model}, training)
        self.weights = language_weights(objective)
        if not any(self.weights.values()):
            raise ValueError("objective: mlm_weight and pair_weight are both 0, so there is nothing to learn; set one above 0")
        freeze_heads(model, keep=language_heads(self.weights))
        self.mlm_mean, self.pair_mean = MeanMetric(), MeanMetric()
        self.pair_accuracy = MeanMetric()

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the MLM and pair losses of a micro-batch as sums over global counts."""
        states, model = self.states("pre", batch), self.model("pre")
        values = {}
        if self.weights["mlm_loss"]:
            seen = self.seen_by("mlm_loss", "pre", states)
            values["mlm_loss"] = mlm_term(model, seen, batch, self.global_count(batch, "masked"))
        if self.weights["pair_loss"]:
            seen = self.seen_by("pair_loss", "pre", states)
            values["pair_loss"] = pair_term(model, seen, batch, self.global_count(batch, "pairs"))[0]
        return {name: Term(value, self.weights[name]) for name, value in values.items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate the fixed-mask losses, weighted by how many predictions each batch holds."""
        states, model = self.states("pre", batch), self.model("pre")
        if self.weights["mlm_loss"] and batch.masked is not None:
            count = batch.masked.numel()
            self.mlm_mean.update(mlm_term(model, states, batch, max(count, 1)), count)
        if self.weights["pair_loss"]:
            loss, hits = pair_term(model, states, batch, batch.size)
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
