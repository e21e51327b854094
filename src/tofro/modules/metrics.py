"""The torchmetrics metric of a task: the same number at one rank and at many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassF1Score, MulticlassMatthewsCorrCoef
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

from tofro.batches.types import Batch
from tofro.text.tags import OUTSIDE, count_tags, score_counts
from tofro.text.task import Task

METRICS: dict[str, Callable[[int], Metric]] = {
    "accuracy": lambda classes: MulticlassAccuracy(classes, average="micro"),
    "f1": lambda classes: BinaryF1Score(),
    "macro_f1": lambda classes: MulticlassF1Score(classes, average="macro"),
    "matthews": lambda classes: MulticlassMatthewsCorrCoef(classes),
    "pearson": lambda classes: PearsonCorrCoef(),
    "spearman": lambda classes: SpearmanCorrCoef(),
}


def task_metric(name: str, classes: int) -> Metric:
    """Return metric ``name`` over predicted classes or scores; ``f1`` takes the last of two sorted labels as positive."""
    if name == "f1" and classes != 2:
        raise ValueError(f"task.metric: f1 needs two labels and the task has {classes}; use macro_f1")
    return METRICS[name](classes)


class TagMetric(Metric):
    """A metric of tagged words: entity_f1, accuracy or macro_f1 (text/tags.py), from counts that add up over batches and ranks.

    A word without a token is predicted as O, whatever the model says.
    """

    full_state_update = False
    higher_is_better = True

    counts: Tensor

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        super().__init__()
        self.name, self.labels = name, tuple(labels)
        none = torch.zeros(len(labels) if name == "macro_f1" else 1, 3, dtype=torch.int64)  # right, predicted, true
        self.add_state("counts", none, dist_reduce_fx="sum")

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Count the words of ``batch``, for which ``logits`` are (W, C)."""
        assert batch.tags is not None
        sizes = torch.bincount(batch.texts, minlength=batch.size).tolist()  # words of each text
        best = torch.where(batch.seen, logits.argmax(-1), len(self.labels))
        names = (*self.labels, OUTSIDE)
        predicted, true = ([[names[tag] for tag in row.tolist()] for row in words.split(sizes)] for words in (best, batch.tags))
        self.counts += torch.tensor(count_tags(self.name, self.labels, predicted, true), device=self.counts.device)

    def compute(self) -> Tensor:
        """Return the score over all words counted, ()."""
        return torch.tensor(score_counts(self.counts.tolist()))


def update_metric(metric: Metric, task: Task, logits: Tensor, batch: Batch) -> None:
    """Let the metric of ``task`` see what its head said about a batch: logits (B, C), scores (B,) or tags' logits (W, C)."""
    if task.kind == "tags":
        metric.update(logits, batch)
    else:
        metric.update(logits.float() if task.kind == "regression" else logits.argmax(-1), batch.labels)


def metric_of(task: Task) -> Metric:
    """Return the metric that a task names."""
    return TagMetric(task.metric, task.labels) if task.kind == "tags" else task_metric(task.metric, len(task.labels))
