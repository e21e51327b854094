"""Floors with no neural network: the majority class, and TF-IDF features under a linear model.

In: a task. Out: the task's metric on validation or test. A transfer result that doesn't clear these
floors says little about transfer. Validation and test are only scored; strengths are chosen by cross-validation on train.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from tofro.measures.linear import choose_strength, fit_at, fit_ridge
from tofro.measures.scores import score
from tofro.measures.tags import majority_tag_score, spelling_scores
from tofro.measures.tasks import labels_of
from tofro.text.task import Example, Task

SPLITS = ("validation", "test")
TUNING_ROWS = 4000  # training rows on which the strength is chosen; the model is then fitted on all
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # rows have length 1, so little regularisation is right
TOLERANCE = 1e-4
WORD = r"(?u)\b\w+\b"  # words of one letter too
SPACES = 0.05  # share of white space below which a text is taken to be written without spaces between words


def majority_score(task: Task, split: str) -> float:
    """Return the metric of always answering the commonest training label (the first in order on a tie), or the mean score."""
    if task.kind == "tags":
        return majority_tag_score(task, split)
    train = labels_of(task, "train")
    answer = np.float64(train.mean()) if task.kind == "regression" else np.bincount(train).argmax()
    return score(task.metric, np.full(len(task.splits[split]), answer), labels_of(task, split))


def tfidf_scores(task: Task) -> dict[str, float]:
    """Return ``{split: metric}`` of TF-IDF features with logistic regression, or ridge regression for scores.

    Features are word 1- and 2-grams with sublinear counts; character 1- to 3-grams where the training texts have no spaces, as
    in Chinese. A pair has the features of each text in places of their own, and one more: the cosine of the two.
    Tags have features of their own kind, of how words are spelt (tags.py).
    """
    if task.kind == "tags":
        return spelling_scores(task)
    vectorizer = _vectorizer(task.splits["train"])
    vectorizer.fit([text for example in task.splits["train"] for text in _texts(example)])
    train, labels = _features(vectorizer, task.splits["train"]), labels_of(task, "train")
    if task.kind == "regression":
        model = fit_ridge(train, labels)
    else:
        rows = _tuning_rows(labels)
        model = fit_at(choose_strength(train[rows], labels[rows], STRENGTHS, TOLERANCE), train, labels, TOLERANCE)
    return {
        split: score(task.metric, model.predict(_features(vectorizer, task.splits[split])), labels_of(task, split))
        for split in SPLITS
    }


def _tuning_rows(labels: np.ndarray) -> np.ndarray:
    """Return evenly spaced rows, at most about TUNING_ROWS, and the first row of every class."""
    spaced = np.arange(0, len(labels), -(-len(labels) // TUNING_ROWS))
    return np.union1d(spaced, np.unique(labels, return_index=True)[1])


def _vectorizer(examples: Sequence[Example]) -> TfidfVectorizer:
    text = "".join(text for example in examples for text in _texts(example))
    if sum(character.isspace() for character in text) < SPACES * len(text):
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    return TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True)


def _texts(example: Example) -> list[str]:
    return [example.text_a] if example.text_b is None else [example.text_a, example.text_b]


def _features(vectorizer: TfidfVectorizer, examples: Sequence[Example]) -> sparse.csr_matrix:
    first = vectorizer.transform([example.text_a for example in examples])  # (N, F), rows of length 1
    if examples[0].text_b is None:
        return first
    second = vectorizer.transform([example.text_b or "" for example in examples])
    cosine = sparse.csr_matrix(first.multiply(second).sum(axis=1))
    return sparse.hstack([first, second, cosine], format="csr")
