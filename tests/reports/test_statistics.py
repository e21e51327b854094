"""Statistics against brute force, textbooks and scipy's own routes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tofro.reports import statistics


def test_below_eight_pairs_there_are_points_and_a_mean_alone() -> None:
    for count in range(1, 8):
        comparison = statistics.compare([0.01] * count)
        assert comparison.pairs == count
        assert comparison.mean == pytest.approx(0.01)
        assert comparison.interval is None
        assert comparison.test is None
    assert statistics.compare([0.01, 0.02] * 4).interval is not None


def test_no_pairs_and_one_pair_have_no_spread() -> None:
    assert math.isnan(statistics.compare([]).mean)
    assert math.isnan(statistics.compare([0.1]).sd)


def test_a_diverged_run_forbids_interval_and_test() -> None:
    comparison = statistics.compare([0.01] * 9 + [math.nan])
    assert comparison.interval is None
    assert comparison.test is None


def test_t_interval_is_scipys() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 11)
    interval = statistics.paired_t_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_sleep_data_of_student() -> None:
    """Student's ten patients (1908): mean 1.58, 95% interval 0.70 to 2.46."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    comparison = statistics.compare([b - a for a, b in zip(first, second, strict=True)])
    assert comparison.mean == pytest.approx(1.58)
    assert comparison.interval is not None
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((0.70, 2.46), abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_sign_flip_is_the_brute_force_count(seed: int) -> None:
    values = np.round(np.random.default_rng(seed).normal(0.2, 1, 9), 1)
    sums = [float(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=9)]
    expected = np.mean([total >= values.sum() - 1e-9 for total in sums])
    assert statistics.sign_flip(values).p_value == pytest.approx(expected)


def test_sign_flip_of_all_positive_differences_is_one_pattern_in_all() -> None:
    assert statistics.sign_flip([0.1] * 8).p_value == 1 / 256
    assert statistics.sign_flip([-0.1] * 8).p_value == 1.0
    assert statistics.sign_flip([0.0] * 8).p_value == 1.0


def test_more_pairs_are_sampled_with_a_note_and_the_same_answer() -> None:
    values = np.random.default_rng(3).normal(0.25, 1, 25)
    sampled = statistics.sign_flip(values)
    assert sampled == statistics.sign_flip(values)
    assert "random patterns" in sampled.method
    assert sampled.p_value == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.02)


def test_holm_on_a_worked_example() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_bca_from_thirty_units_alone() -> None:
    values = np.random.default_rng(5).exponential(2, 40)
    interval = statistics.bca_interval(values, draws=50_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=50_000, rng=np.random.default_rng(9)).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    assert "BCa" in statistics.compare(values).interval.method  # type: ignore[union-attr]
    assert "t" in statistics.compare(values[:29]).interval.method  # type: ignore[union-attr]
    constant = statistics.bca_interval(np.ones(30))
    assert (constant.low, constant.high) == (1, 1)
    with pytest.raises(AssertionError):
        statistics.bca_interval(values[:29])


@pytest.mark.parametrize(("hits", "count"), [(0, 12), (12, 12), (889, 1611), (1, 3)])
def test_proportion_interval_is_the_exact_binomial(hits: int, count: int) -> None:
    interval = statistics.proportion_interval(hits / count, count)
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="exact")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_pair_accuracy_of_55_percent_excludes_one_half_only_with_enough_pairs() -> None:
    assert statistics.proportion_interval(0.552, 1611).excludes(0.5)
    assert not statistics.proportion_interval(0.552, 161).excludes(0.5)


def test_power_note_of_the_protocol() -> None:
    """One point at sd 1.5 needs about 20 pairs; one fewer has less than 80% power."""
    assert statistics.pairs_needed(1.5, 1.0) == 20
    assert statistics.pairs_needed(0.0, 1.0) == 2
    assert statistics.pairs_needed(150, 1.0) > 10_000
    power = [stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, math.sqrt(n) / 1.5) for n in (19, 20)]
    assert power[0] < 0.8 <= power[1]


def test_pairing_keeps_shared_units_whatever_the_order() -> None:
    arm = {2: 0.9, 0: 0.7, 5: 0.1, 1: 0.8}
    reference = {0: 0.5, 1: 0.5, 2: 0.5, 9: 0.5}
    assert statistics.pair_by_unit(arm, reference) == pytest.approx({2: 0.4, 0: 0.2, 1: 0.3})


def test_intervals_cover_at_eight_pairs() -> None:
    rng = np.random.default_rng(11)
    draws = rng.normal(0, 1, (2000, 8))
    covered = np.mean([not statistics.paired_t_interval(row).excludes(0) for row in draws])
    assert 0.93 < covered < 0.97
