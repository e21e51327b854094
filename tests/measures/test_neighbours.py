from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors

from tests.measures.test_probes import make_rows
from tofro.measures import neighbours as file
from tofro.measures.neighbours import NEIGHBOURS, nearest, neighbours, vote
from tofro.measures.probes import Rows, Standardiser


def scaled(rows: Rows, factor: float) -> Rows:
    return Rows(rows.features * np.float32(factor), rows.labels)


def test_the_nearest_are_those_of_scikit_learn() -> None:
    train, test = make_rows(300, 1).features, make_rows(80, 2).features
    reference = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(train.astype(np.float64))
    assert np.array_equal(nearest(train, test, 7), reference.kneighbors(test.astype(np.float64), return_distance=False))


def test_votes_are_counted_and_a_tie_goes_to_the_nearer_label() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (200, 6))
    for row, winner in zip(labels, vote(labels), strict=True):
        most = max(Counter(row.tolist()).values())
        assert winner == next(label for label in row if (row == label).sum() == most)
    assert vote(np.array([[2, 0, 0, 2], [5, 5, 5, 9]])).tolist() == [2, 5]


def test_the_whole_against_a_plain_loop() -> None:
    train, test = make_rows(120, 1), make_rows(50, 2)
    standardise = Standardiser(train.features)
    known, asked = standardise(train.features), standardise(test.features)
    right = 0
    for row, label in zip(asked, test.labels, strict=True):
        cosines = [row @ one / np.linalg.norm(row) / np.linalg.norm(one) for one in known]
        near = train.labels[np.argsort(cosines)[::-1][:NEIGHBOURS]]
        right += max(near, key=lambda each: ((near == each).sum(), -list(near).index(each))) == label
    assert neighbours(train, {"test": test}, "accuracy") == {"test": right / 50}


def test_a_regression_takes_the_mean() -> None:
    rng = np.random.default_rng(0)
    train, test = (Rows(rng.normal(size=(n, 5)), rng.normal(size=n)) for n in (90, 40))
    standardise = Standardiser(train.features)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in map(standardise, (train.features, test.features))]
    reference = KNeighborsRegressor(NEIGHBOURS).fit(unit[0], train.labels).predict(unit[1])
    found = neighbours(train, {"test": test}, "pearson", regression=True)["test"]
    assert found == pytest.approx(np.corrcoef(reference, test.labels)[0, 1], abs=1e-12)


def test_the_same_twice_and_whatever_the_unit_of_the_features() -> None:
    train, test = make_rows(300, 1), make_rows(200, 2)
    first = neighbours(train, {"test": test}, "accuracy")
    assert neighbours(train, {"test": test}, "accuracy") == first
    for factor in (8, 10, 2**-20):
        assert neighbours(scaled(train, factor), {"test": scaled(test, factor)}, "accuracy") == first
        near = [
            nearest(*map(Standardiser(one.features), (one.features, other.features)))
            for one, other in ((train, test), (scaled(train, factor), scaled(test, factor)))
        ]
        assert np.array_equal(*near)


def test_equal_rows_go_by_their_order_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train = np.random.default_rng(0).normal(size=(40, 6)).repeat(3, axis=0)
    found = nearest(train, train, 3)
    assert np.array_equal(found, 3 * (np.arange(120) // 3)[:, None] + [0, 1, 2])
    monkeypatch.setattr(file, "CHUNK", 7)
    assert np.array_equal(nearest(train, train, 3), found)


def test_few_rows_are_all_asked_and_zeros_have_no_neighbours_of_their_own() -> None:
    train = np.eye(3)
    assert nearest(train, np.ones((2, 3)), NEIGHBOURS).shape == (2, 3)
    assert nearest(train, np.zeros((1, 3)), 2).tolist() == [[0, 1]]
    assert nearest(train, np.zeros((0, 3)), 2).shape == (0, 2)


def test_the_number_of_neighbours_is_fixed() -> None:
    assert NEIGHBOURS == 10
    assert inspect.signature(neighbours).parameters["count"].default == NEIGHBOURS


def test_rounding_does_not_decide_who_is_nearer() -> None:
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(6, 50))
    train = texts.repeat(9, axis=0) + 1e-12 * rng.normal(size=(54, 50))
    assert np.array_equal(nearest(train, texts, 9), 9 * np.arange(6)[:, None] + np.arange(9))
