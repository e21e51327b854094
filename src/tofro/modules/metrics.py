"""The torchmetrics metric of a task: the same number at one rank and at many."""

from __future__ import annotations

from collections.abc import Callable

from torchmetrics import Metric
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassF1Score, MulticlassMatthewsCorrCoef
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

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
