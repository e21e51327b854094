from __future__ import annotations

import numpy as np
import pytest

from tofro.measures.scores import score

LABELS = np.array([0, 0, 1, 1, 1, 0, 1, 0])
GUESSES = np.array([0, 1, 1, 1, 0, 0, 1, 0])


def test_accuracy_is_the_share_of_equal_labels():
    assert score("accuracy", GUESSES, LABELS) == 6 / 8


def test_f1_takes_the_last_label_as_positive():
    hits, false_alarms, misses = 3, 1, 1
    assert score("f1", GUESSES, LABELS) == pytest.approx(2 * hits / (2 * hits + false_alarms + misses))
    assert score("f1", np.zeros(8, int), LABELS) == 0.0


def test_f1_of_three_classes_is_refused_with_a_way_out():
    with pytest.raises(ValueError, match="macro_f1"):
        score("f1", np.array([0, 1, 2]), np.array([0, 1, 2]))


def test_macro_f1_averages_the_classes():
    labels = np.array([0, 0, 1, 2])
    guesses = np.array([0, 1, 1, 1])
    assert score("macro_f1", guesses, labels) == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_matthews_is_the_correlation_of_the_two_binary_vectors():
    assert score("matthews", GUESSES, LABELS) == pytest.approx(np.corrcoef(GUESSES, LABELS)[0, 1])
    assert score("matthews", np.ones(8, int), LABELS) == 0.0


def test_spearman_sees_only_the_order():
    truth = np.array([0.1, 0.4, 0.2, 0.9, 0.7])
    assert score("spearman", np.exp(5 * truth), truth) == pytest.approx(1.0)
    assert score("pearson", np.exp(5 * truth), truth) < 0.99
    assert score("pearson", 3 - 2 * truth, truth) == pytest.approx(-1.0)


def test_a_constant_prediction_has_no_correlation():
    assert score("spearman", np.ones(5), np.arange(5.0)) == 0.0


def test_unknown_metric_and_empty_split_are_refused():
    with pytest.raises(ValueError, match=r"task\.metric=acuracy is unknown"):
        score("acuracy", GUESSES, LABELS)
    with pytest.raises(ValueError, match="empty split"):
        score("accuracy", GUESSES[:0], LABELS[:0])


@pytest.mark.filterwarnings("ignore:Metric `Spearman")
@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"])
def test_scores_agree_with_the_metrics_that_training_accumulates(metric: str):
    import torch

    from tofro.modules.metrics import task_metric

    rng = np.random.default_rng(0)
    classes = 2 if metric == "f1" else 4
    labels, guesses = rng.integers(classes, size=60), rng.integers(classes, size=60)
    if metric in ("pearson", "spearman"):
        labels, guesses = labels + rng.normal(size=60), labels + rng.normal(size=60)
    batched = task_metric(metric, classes)
    for part in (slice(0, 25), slice(25, 60)):
        batched.update(torch.from_numpy(guesses[part]), torch.from_numpy(labels[part]))
    assert score(metric, guesses, labels) == pytest.approx(float(batched.compute()), abs=1e-5)
