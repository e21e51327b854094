"""Tags without a trained head: the floors with no neural network, and what a linear probe of words needs.

In: a task of tagged words, or a model and its batches. Out: the task's metric by split, or states and tags of words. The floors
are the commonest tag, and logistic regression on the spelling of a word and its neighbours. Validation and test are only scored;
strengths are chosen by cross-validation on training words. The probe itself is in probes.py.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from tofro.batches.types import Batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.measures.linear import STRENGTHS, TOLERANCE, choose_strength, fit_at
from tofro.text.tags import count_tags, score_counts
from tofro.text.task import Example, Task

SPLITS = ("validation", "test")
TUNING_WORDS = 10_000  # training words on which a strength is chosen; the model is then fitted on all
SPELLING_STRENGTHS = (0.1, 1.0, 10.0)
SPELLING_TOLERANCE = 1e-3
AFFIX = 3  # letters
EDGE = "\0"  # beyond the first and the last word; no word holds it


def majority_tag_score(task: Task, split: str) -> float:
    """Return the metric of giving every word the commonest training tag, O where entities are tagged; the first on a tie."""
    counts = Counter(tag for example in task.splits["train"] for tag in example.labels)
    answer = max(sorted(counts), key=counts.__getitem__)
    return _score(task, split, [[answer] * len(example.words) for example in task.splits[split]])


def spelling_scores(task: Task) -> dict[str, float]:
    """Return ``{split: metric}`` of logistic regression on how a word and its two neighbours are spelt."""
    vectorizer = CountVectorizer(analyzer=tuple, binary=True, min_df=2, dtype=np.float64)
    train = vectorizer.fit_transform(_spelling(task.splits["train"]))
    labels = np.array([tag for example in task.splits["train"] for tag in example.labels])
    model = fit_words(train, labels, SPELLING_STRENGTHS, SPELLING_TOLERANCE)
    scores = {}
    for split in SPLITS:
        answers = iter(model.predict(vectorizer.transform(_spelling(task.splits[split]))).tolist())
        scores[split] = _score(task, split, [[next(answers) for _ in example.words] for example in task.splits[split]])
    return scores


def word_states(model: Model, batch: Batch) -> np.ndarray:
    """Return the last states (W, D) of the tokens that stand for the words of a batch."""
    moved = batch.to(device_of(model))
    assert moved.tagged is not None
    with inference(model):
        states: np.ndarray = model.encoder(moved).index_select(0, moved.tagged).float().cpu().numpy()
    return states


def extract_words(model: Model, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Return states (N, D) and tags (N,) of all words that have a token, text after text in the order of the samples."""
    features, labels, samples = [], [], []
    for batch in batches:
        assert batch.tags is not None
        assert batch.samples is not None
        seen = batch.seen
        features.append(word_states(model, batch)[seen.numpy()])
        labels.append(batch.tags[seen].numpy())
        samples.append(batch.samples[batch.texts][seen].numpy())
    order = np.concatenate(samples).argsort(kind="stable")
    return np.concatenate(features)[order], np.concatenate(labels)[order]


def fit_words(
    features: Any, labels: np.ndarray, strengths: tuple[float, ...] = STRENGTHS, tolerance: float = TOLERANCE
) -> LogisticRegression:
    """Fit logistic regression at a strength chosen on evenly spaced words and the first of every tag."""
    spaced = np.arange(0, len(labels), -(-len(labels) // TUNING_WORDS))
    tuning = np.union1d(spaced, np.unique(labels, return_index=True)[1])
    return fit_at(choose_strength(features[tuning], labels[tuning], strengths, tolerance), features, labels, tolerance)


def _score(task: Task, split: str, predicted: Sequence[Sequence[str]]) -> float:
    return score_counts(count_tags(task.metric, task.labels, predicted, [example.labels for example in task.splits[split]]))


def _spelling(examples: Iterable[Example]) -> Iterator[tuple[str, ...]]:
    """Yield the features of every word: itself, its beginnings and ends, and the word and shape before it and after it."""
    for example in examples:
        words = [EDGE, *(word.lower() for word in example.words), EDGE]
        shapes = [EDGE, *map(_shape, example.words), EDGE]
        for place in range(1, len(words) - 1):
            word = words[place]
            around = {f"{side}{kind[place + side]}" for side in (-1, 0, 1) for kind in (words, shapes)}
            parts = {part for size in range(1, AFFIX + 1) for part in (f"<{word[:size]}", f">{word[-size:]}")}
            yield ("any", *sorted(around | parts))


def _shape(word: str) -> str:
    """Return a word with its capitals, small letters and digits told apart and nothing more: Xx of Ada, x-9 of covid-19."""
    kinds = ["X" if one.isupper() else "x" if one.islower() else "9" if one.isdigit() else one for one in word]
    return "".join(kind for kind, _ in itertools.groupby(kinds))
