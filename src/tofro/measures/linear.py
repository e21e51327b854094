"""Linear models whose L2 strength is chosen by cross-validation, the same answer every time.

In: features (N, D), dense or sparse, and labels (N,). Out: a fitted scikit-learn model. Folds follow from the labels' order
alone, the solvers are second-order (their result does not hang on the last digits of the input) and run on one thread, so that
a number can be repeated exactly. Probes, the leak classifier and the TF-IDF baseline share this file; scaling features is
theirs to do.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

STRENGTHS = tuple(10.0**exponent for exponent in range(-4, 3))  # scikit-learn's C: larger means less regularised
ALPHAS = tuple(10.0**exponent for exponent in range(-2, 6))
FOLDS = 3
TOLERANCE = 1e-6


def assign_folds(labels: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """Return the fold of every row (N,): the rows of each class are dealt out in turn.

    A class with one row is never held out (fold -1), so that every class stands in every training part.
    """
    result = np.empty(len(labels), np.int64)
    for start, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        result[rows] = (np.arange(rows.size) + start) % folds if rows.size > 1 else -1
    return result


def fit_logistic(features: Any, labels: np.ndarray) -> LogisticRegression:
    """Fit L2 logistic regression (multinomial for C > 2) at the strength that :func:`choose_strength` finds, its ``C``.

    ``labels`` (N,) are class ids with at least two classes.
    """
    return fit_at(choose_strength(features, labels), features, labels)


def fit_at(strength: float, features: Any, labels: np.ndarray, tolerance: float = TOLERANCE) -> LogisticRegression:
    """Fit L2 logistic regression at a given strength."""
    with threadpool_limits(1):
        return _fit(_logistic(strength, tolerance), features, labels)


def choose_strength(
    features: Any, labels: np.ndarray, strengths: tuple[float, ...] = STRENGTHS, tolerance: float = TOLERANCE, folds: int = FOLDS
) -> float:
    """Return the strength with the least held-out negative log-likelihood.

    Strengths are tried from strong to weak regularisation, each fit warm from the last, until the held-out loss has risen; a
    tie goes to the stronger. Where every class has one row nothing can be held out, and the answer is 1.
    """
    assert np.unique(labels).size > 1, "logistic regression needs two classes"
    fold = assign_folds(labels, folds)
    held_out = [np.flatnonzero(fold == index) for index in range(folds)]
    parts = [(np.flatnonzero(fold != index), rows) for index, rows in enumerate(held_out) if rows.size]
    if not parts:
        return 1.0
    models = [_logistic(strengths[0], tolerance) for _ in parts]
    best, best_loss = strengths[0], np.inf
    for strength in sorted(strengths):
        loss = 0.0
        for model, (train, held) in zip(models, parts, strict=True):
            model.C = strength
            with threadpool_limits(1):
                _fit(model, features[train], labels[train])
            loss -= _log_likelihood(model, features[held], labels[held])
        if loss >= best_loss:
            break
        best, best_loss = strength, loss
    return best


def fit_ridge(features: Any, labels: np.ndarray, alphas: tuple[float, ...] = ALPHAS, folds: int = FOLDS) -> Ridge:
    """Fit ridge regression at the strength with the least held-out squared error; ``labels`` (N,) are real."""
    fold = np.arange(len(labels)) % folds
    losses = np.zeros(len(alphas))
    with threadpool_limits(1):
        for index in range(folds):
            train, held = np.flatnonzero(fold != index), np.flatnonzero(fold == index)
            if train.size == 0 or held.size == 0:
                continue
            for place, alpha in enumerate(alphas):
                predictions = Ridge(alpha=alpha, tol=1e-8).fit(features[train], labels[train]).predict(features[held])
                losses[place] += np.square(predictions - labels[held]).sum()
        return Ridge(alpha=alphas[int(losses.argmin())], tol=1e-8).fit(features, labels)


def _logistic(strength: float, tolerance: float) -> LogisticRegression:
    return LogisticRegression(C=strength, solver="newton-cg", tol=tolerance, max_iter=200, warm_start=True)


def _fit(model: LogisticRegression, features: Any, labels: np.ndarray) -> LogisticRegression:
    with warnings.catch_warnings():
        # Separable data at the weakest strength converge slowly; cross-validation has already turned away from them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)


def _log_likelihood(model: LogisticRegression, features: Any, labels: np.ndarray) -> float:
    probabilities = model.predict_proba(features)  # (N, C)
    columns = np.searchsorted(model.classes_, labels)
    return float(np.log(np.maximum(probabilities[np.arange(len(labels)), columns], 1e-300)).sum())
