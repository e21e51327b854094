"""One-way fine-tuning, full or partial: the task loss on one encoder, ``ft``."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanMetric

from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.modules.base import Training, TransferModule
from tofro.modules.metrics import metric_of, update_metric
from tofro.modules.outputs import HeadOutput, Output
from tofro.modules.regularizers import Regularizers
from tofro.modules.start import Start
from tofro.modules.terms import Term
from tofro.objectives.task import classification_loss, regression_loss
from tofro.text.task import Task


class FineTuning(TransferModule):
    """L = L_task(M_ft): cross-entropy over labels, of texts or of words, or mean squared error over scores.

    ``output`` makes the logits of a batch, from a task head where it isn't given.
    Which parameters train is decided before the optimizer exists, by a tuning applied to ``model`` (encoders/tuning.py).
    """

    mode = "max"

    def __init__(
        self,
        model: Model,
        task: Task,
        training: Training,
        regularizers: Regularizers | None = None,
        output: Output | None = None,
    ) -> None:
        super().__init__({"ft": model}, training)
        self.output = output or HeadOutput()
        self.regularizers = regularizers or Regularizers()
        self.rests = self.regularizers.rests
        self.starts = {"ft": Start(model.encoder)}
        self.regularizers.remember("ft", model)
        freeze_heads(model, keep=(*self.output.heads(model), *self.regularizers.heads("ft")))
        self.monitor = f"validation/{task.metric}_ft"
        self.nothing = 0.0 if task.metric == "entity_f1" else None  # all words are O, often for many evaluations
        self.task = task
        self.task_loss = regression_loss if task.kind == "regression" else classification_loss
        self.counted = "tagged" if task.kind == "tags" else "samples"  # what the loss is a mean over
        self.metric = metric_of(task)
        self.mean_loss = MeanMetric()

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the task loss of a micro-batch, a sum over samples or tagged words of the global batch, and what regularises."""
        task = Term(self.task_term("ft", self.states("ft", batch), batch))
        return {"task_loss": task, **self.regularizers.terms(self, batch, self.starts["ft"])}

    def task_term(self, name: str, states: Tensor, batch: Batch) -> Tensor:
        """Return L_task of an encoder, from its states (T, D)."""
        seen = self.seen_by("task_loss", name, states)
        logits = self.output.logits(self.model(name), seen, batch)
        return self.task_loss(logits, batch.targets, self.global_count(batch, self.counted))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulate loss and metric of ``ft``."""
        logits = self.output.logits(self.model("ft"), self.states("ft", batch), batch)
        count = batch.counts[self.counted]
        self.mean_loss.update(self.task_loss(logits, batch.targets, max(count, 1)), count)
        update_metric(self.metric, self.task, logits, batch)

    def on_validation_epoch_end(self) -> None:
        """Log both over the whole split."""
        moved = {f"validation/displacement_{name}": start.displacement() for name, start in self.starts.items()}
        self.log_dict({self.monitor: self.metric.compute(), "validation/task_loss_ft": self.mean_loss.compute(), **moved})
        self.metric.reset()
        self.mean_loss.reset()


def freeze_heads(model: Model, keep: tuple[str, ...]) -> None:
    """Freeze the heads that no term of the loss uses: they keep the values that pretraining gave them."""
    for name, head in model.heads.items():
        if name not in keep:
            head.requires_grad_(False)
