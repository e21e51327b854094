"""Nearest neighbours: how much of a task lies in which texts an encoder puts close together, with nothing fitted at all.

In: features and labels of training rows and of rows to score, as in ``probes.py``. Out: one number per split. Where a linear
probe asks for a direction that tells the labels apart, neighbours ask whether alike texts are alike in label. Leaves out a choice
of the number of neighbours: it is fixed, so that nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from threadpoolctl import threadpool_limits

from tofro.measures.probes import Rows, Standardiser
from tofro.measures.scores import score
from tofro.measures.similarity import unit_rows

NEIGHBOURS = 10
CHUNK = 1024  # rows scored at once; bounds memory
_STEPS = 1e9  # to which a similarity is compared: rounding of the last bits must decide nothing


def nearest(train: np.ndarray, rows: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:
    """Return the indices (M, k) of the k training rows nearest to each of ``rows`` (M, D) by cosine, the nearest first.

    ``train`` is (N, D), k the smaller of ``count`` and N. Similarities are compared to nine decimals, in fp64 on one thread; of
    equal ones the first row is the nearer. A row of zeros is as near to every row as to any other.
    """
    train, rows = unit_rows(train), unit_rows(rows)
    count = min(count, len(train))
    found = [np.zeros((0, count), np.int64)]
    with threadpool_limits(1):
        for start in range(0, len(rows), CHUNK):
            similarity = np.rint(rows[start : start + CHUNK] @ train.T * _STEPS).astype(np.int64)  # (m, N)
            far = np.arange(len(train)) - similarity * len(train)  # no two alike: by similarity, then by row
            near = np.argpartition(far, count - 1, axis=1)[:, :count]
            order = np.take_along_axis(far, near, axis=1).argsort(axis=1)
            found.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(found)


def vote(labels: np.ndarray) -> np.ndarray:
    """Return the commonest of each row of class ids ``labels`` (M, k), nearest neighbour first; on a tie, the nearer one."""
    classes = np.unique(labels)
    holds = labels[:, None, :] == classes[None, :, None]  # (M, C, k)
    first = np.where(holds.any(-1), holds.argmax(-1), labels.shape[1])  # (M, C) how near the nearest neighbour of a class is
    weight = holds.sum(-1) * (labels.shape[1] + 1) - first
    winners: np.ndarray = classes[weight.argmax(-1)]
    return winners


def neighbours(
    train: Rows, splits: Mapping[str, Rows], metric: str, regression: bool = False, count: int = NEIGHBOURS
) -> dict[str, float]:
    """Return the ``metric`` on each of ``splits`` of answering as the ``count`` nearest rows of ``train`` do.

    Features are standardised on ``train`` first, as a probe's are, and then compared by cosine. Classes are put to the vote with
    equal weights (Cover and Hart 1967); scores of a regression are averaged.
    """
    standardise = Standardiser(train.features)
    known = standardise(train.features)
    result = {}
    for name, rows in splits.items():
        labels = train.labels[nearest(known, standardise(rows.features), count)]  # (M, k)
        predictions = labels.astype(np.float64).mean(-1) if regression else vote(labels)
        result[name] = score(metric, predictions, rows.labels)
    return result
