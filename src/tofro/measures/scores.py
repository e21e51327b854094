"""The metrics of a task as numbers in [-1, 1], computed on whole splits.

In: predictions and labels of N examples, class ids (the index in the task's sorted labels) or real scores. Out: one float.
Metrics that accumulate over the batches of a training run live in ``modules/``; here everything is in memory at once.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef


def score(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return ``metric`` of ``predictions`` (N,) against ``labels`` (N,).

    accuracy, macro_f1 (over the classes that occur in either), matthews and f1 take class ids. The positive class of f1 is
    id 1, the last of the two sorted labels. pearson and spearman take real numbers. A correlation or an F1 that is undefined
    because one side is constant counts as 0. Raises ValueError for an unknown metric, for f1 with more than two classes, and
    for no examples.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    assert predictions.shape == labels.shape, f"{predictions.shape} predictions for {labels.shape} labels"
    assert labels.ndim == 1
    if labels.size == 0:
        raise ValueError(f"task.metric={metric} of an empty split: give the split at least one example")
    if metric == "accuracy":
        return float(np.mean(predictions == labels))
    if metric == "f1":
        return _binary_f1(predictions, labels)
    if metric == "macro_f1":
        return float(f1_score(labels, predictions, average="macro", zero_division=0.0))
    if metric == "matthews":
        return float(matthews_corrcoef(labels, predictions))
    if metric in ("pearson", "spearman"):
        return _correlation(metric, predictions.astype(np.float64), labels.astype(np.float64))
    raise ValueError(f"task.metric={metric} is unknown; choose accuracy, f1, macro_f1, matthews, pearson or spearman")


def _binary_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    if max(predictions.max(), labels.max()) > 1:
        raise ValueError("task.metric=f1 needs two classes; use macro_f1 for more")
    return float(f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0))


def _correlation(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    correlate = stats.pearsonr if metric == "pearson" else stats.spearmanr
    return float(correlate(predictions, labels).statistic)
