from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from tofro.measures.linear import ALPHAS, STRENGTHS, assign_folds, choose_strength, fit_logistic, fit_ridge


def make_classes(rows: int = 150, width: int = 8, classes: int = 3, noise: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width))
    logits = features @ rng.normal(size=(width, classes)) + noise * rng.gumbel(size=(rows, classes))
    return features, logits.argmax(1)


def test_folds_deal_every_class_out_evenly_and_keep_singletons_in_training():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    folds = assign_folds(labels, 3)
    assert folds[-1] == -1
    for label in (0, 1, 2):
        counts = np.bincount(folds[labels == label], minlength=3)
        assert counts.max() - counts.min() <= 1


def test_chosen_strength_has_the_least_held_out_loss_of_cold_fits():
    from sklearn.linear_model import LogisticRegression

    features, labels = make_classes()
    fold = assign_folds(labels)

    def held_out_loss(strength: float) -> float:
        loss = 0.0
        for index in range(3):
            model = LogisticRegression(C=strength, solver="newton-cg", tol=1e-8, max_iter=500)
            model.fit(features[fold != index], labels[fold != index])
            guesses = model.predict_log_proba(features[fold == index])
            loss -= guesses[np.arange(len(guesses)), labels[fold == index]].sum()
        return loss

    assert choose_strength(features, labels) == min(STRENGTHS, key=held_out_loss)


def test_more_noise_asks_for_more_regularisation():
    clear, noisy = make_classes(noise=0.1), make_classes(noise=30.0)
    assert choose_strength(*noisy) < choose_strength(*clear)


def test_separable_data_and_a_class_with_one_row_are_fitted_without_a_warning():
    features = np.vstack([np.eye(4)] * 5 + [np.full((1, 4), 9.0)])
    labels = np.array([0, 1, 2, 3] * 5 + [4])
    assert (fit_logistic(features, labels).predict(features) == labels).all()


def test_dense_and_sparse_features_give_the_same_predictions():
    features, labels = make_classes()
    dense = fit_logistic(features, labels).predict_proba(features)
    assert np.allclose(dense, fit_logistic(sparse.csr_matrix(features), labels).predict_proba(features), atol=1e-5)
    truth = features @ np.arange(8.0)
    ridge = fit_ridge(features, truth).predict(features)
    assert np.allclose(ridge, fit_ridge(sparse.csr_matrix(features), truth).predict(features), atol=1e-4)


def test_ridge_takes_the_strength_of_least_held_out_error():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 20))
    labels = features[:, 0] + rng.normal(size=40)
    fold = np.arange(40) % 3

    def held_out_error(alpha: float) -> float:
        guesses = [Ridge(alpha).fit(features[fold != i], labels[fold != i]).predict(features[fold == i]) for i in range(3)]
        return sum(float(np.square(guess - labels[fold == i]).sum()) for i, guess in enumerate(guesses))

    assert fit_ridge(features, labels).alpha == min(ALPHAS, key=held_out_error)


def test_fitting_twice_is_bit_identical():
    features, labels = make_classes()
    first, second = fit_logistic(features, labels), fit_logistic(features, labels)
    assert np.array_equal(first.coef_, second.coef_)
    assert first.C == second.C


def test_one_class_is_an_invariant_broken():
    with pytest.raises(AssertionError, match="two classes"):
        fit_logistic(np.ones((4, 2)), np.zeros(4, int))
