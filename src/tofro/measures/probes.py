"""Linear probes: how much of a task a linear model reads off an encoder's frozen features.

In: a model and the batches of a task's splits. Out: one number per split. Features are standardised, so that growth of their
norm alone does not look like knowledge, and the L2 strength is chosen by cross-validation on the training rows. What
:func:`task_features` returns serves nearest neighbours too (neighbours.py), so that texts are encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tofro.batches.labelled import task_batches
from tofro.batches.types import Batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.encoders.pooling import pool
from tofro.measures.linear import fit_logistic, fit_ridge
from tofro.measures.scores import score
from tofro.measures.tags import extract_words, fit_words, word_states
from tofro.modules.metrics import TagMetric
from tofro.text.task import Task, at_most
from tofro.tokens.tokenizer import Tokenizer

BATCH = 64  # sequences of a forward pass; has no bearing on the result beyond rounding
ROWS = 2000  # training rows of a probe; more cost time and change little
WORDS = 20_000  # training words of a probe of tags
_CONSTANT = 1e-6  # a feature that varies less than this share of its size carries nothing but rounding


@dataclass(frozen=True)
class Rows:
    """Features (N, D) of a split and its labels (N,): class ids, or real scores of a regression."""

    features: np.ndarray
    labels: np.ndarray


def task_features(
    model: Model,
    tokenizer: Tokenizer,
    task: Task,
    max_length: int,
    pooling: str = "mean",
    rows: int = ROWS,
    splits: Sequence[str] = ("validation", "test"),
    test_rows: int | None = None,
) -> dict[str, Rows]:
    """Return the features and labels of ``train`` and of ``splits`` of a task.

    At most ``rows`` training rows are used and at most ``test_rows`` of each other split (None: all), chosen by content hash, the
    same for every model and seed.
    """
    parts = {"train": at_most(task.splits["train"], rows)} | {name: at_most(task.splits[name], test_rows) for name in splits}
    batches = {name: task_batches(part, tokenizer, max_length, BATCH, task.labels) for name, part in parts.items()}
    return {name: extract(model, part, pooling) for name, part in batches.items()}


def probe_words(
    model: Model,
    tokenizer: Tokenizer,
    task: Task,
    max_length: int,
    rows: int = ROWS,
    splits: Sequence[str] = ("validation", "test"),
    test_rows: int | None = None,
) -> dict[str, float]:
    """Return ``{split: metric}`` of a linear probe of a task of tags, on the state of each word's first token.

    A word without a token counts as O. Texts are chosen as :func:`task_features` does, and of the training texts' words the first
    ``WORDS`` are used.
    """
    train = at_most(task.splits["train"], rows)
    features, tags = extract_words(model, task_batches(train, tokenizer, max_length, BATCH, task.labels))
    if np.unique(tags[:WORDS]).size < 2:
        raise ValueError("task: the training words hold a single tag, so there is nothing to probe")
    standardise = Standardiser(features[:WORDS])
    fitted = fit_words(standardise(features[:WORDS]), tags[:WORDS])
    scores = {}
    for split in splits:
        metric = TagMetric(task.metric, task.labels)
        for batch in task_batches(at_most(task.splits[split], test_rows), tokenizer, max_length, BATCH, task.labels):
            answers = torch.from_numpy(fitted.predict(standardise(word_states(model, batch))))
            metric.update(torch.nn.functional.one_hot(answers, len(task.labels)), batch)
        scores[split] = float(metric.compute())
    return scores


def extract(model: Model, batches: Iterable[Batch], pooling: str = "mean") -> Rows:
    """Return the pooled last states and labels of all sequences, in the order of their sample index where batches have one."""
    features, labels, samples = [], [], []
    device = device_of(model)
    with inference(model):
        for batch in batches:
            moved = batch.to(device)
            features.append(pool(model.encoder(moved), moved, pooling).float().cpu())
            assert batch.labels is not None, "a probe needs labels"
            labels.append(batch.labels.cpu())
            samples.append(batch.samples.cpu() if batch.samples is not None else torch.zeros(batch.size, dtype=torch.int64))
    order = torch.cat(samples).argsort(stable=True)
    return Rows(torch.cat(features)[order].numpy(), torch.cat(labels)[order].numpy())


class Standardiser:
    """Scales features to mean 0 and standard deviation 1 on the rows it was made from; constant features become 0.

    The result does not depend on the features' unit: to the last bit where it changes by a power of two, else to rounding.
    """

    def __init__(self, features: np.ndarray) -> None:
        wide = features.astype(np.float64)  # (N, D)
        self.mean = wide.mean(0)
        deviation = wide.std(0)
        constant = deviation <= _CONSTANT * np.abs(wide).max(0)
        self.scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the scaled features (N, D), float64."""
        result: np.ndarray = (features.astype(np.float64) - self.mean) * self.scale
        return result


def probe(train: Rows, splits: Mapping[str, Rows], metric: str, regression: bool = False) -> dict[str, float]:
    """Fit a linear probe on ``train`` and return its ``metric`` on each of ``splits``.

    Classification: multinomial logistic regression; regression: ridge. Both have an L2 strength chosen by three-fold
    cross-validation on ``train``, and both are the same to the last bit for the same features. Raises ValueError where
    ``train`` holds a single class.
    """
    standardise = Standardiser(train.features)
    if regression:
        model = fit_ridge(standardise(train.features), train.labels.astype(np.float64))
    elif np.unique(train.labels).size < 2:
        raise ValueError("task: the training rows hold a single class, so there is nothing to probe")
    else:
        model = fit_logistic(standardise(train.features), train.labels)
    return {name: score(metric, model.predict(standardise(rows.features)), rows.labels) for name, rows in splits.items()}
