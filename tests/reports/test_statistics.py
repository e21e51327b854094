"""Statistics against brute force, textbooks and scipy's own routes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

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


def test_paired_intervals_and_tests_are_scipys() -> None:
    rng = np.random.default_rng(21)
    for pairs in (8, 20, 29):
        arm, reference = rng.normal(0.82, 0.02, pairs), rng.normal(0.81, 0.02, pairs)
        comparison = statistics.compare(arm - reference)
        expected = stats.ttest_rel(arm, reference).confidence_interval(0.95)
        assert comparison.interval is not None
        assert (comparison.interval.low, comparison.interval.high) == pytest.approx((expected.low, expected.high))
        one_sided = stats.ttest_rel(arm, reference, alternative="greater").pvalue
        assert statistics.t_test(arm - reference).p_value == pytest.approx(one_sided)


@pytest.mark.parametrize("pairs", [8, 12])
def test_sign_flip_is_scipys_permutation_test(pairs: int) -> None:
    arm, reference = np.random.default_rng(pairs).normal([[0.3], [0.0]], 0.5, (2, pairs))
    expected = stats.permutation_test(
        (arm, reference), lambda x, y: np.mean(x - y), permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert statistics.sign_flip(arm - reference).p_value == pytest.approx(expected.pvalue)


def test_where_less_is_better_the_test_looks_below_zero() -> None:
    losses = np.random.default_rng(2).normal(-0.1, 0.05, 10)
    more, less = statistics.compare(losses), statistics.compare(losses, lower_is_better=True)
    assert more.test is not None
    assert less.test is not None
    assert more.test.p_value > 0.99
    assert less.test.p_value == pytest.approx(statistics.sign_flip(-losses).p_value)
    assert less.test.p_value < 0.01
    assert (less.mean, less.interval) == (more.mean, more.interval)


def test_one_cluster_is_none_and_each_pair_its_own_cluster_is_the_paired_t() -> None:
    values = np.random.default_rng(4).normal(0, 1, 9)
    assert statistics.compare(values, ["only"] * 9) == statistics.compare(values)
    apart, paired = statistics.compare(values, list(range(9))), statistics.compare(values)
    assert apart.interval is not None
    assert paired.interval is not None
    assert (apart.interval.low, apart.interval.high) == (paired.interval.low, paired.interval.high)
    assert apart.clusters == 9


def test_clusters_count_once_each() -> None:
    """Three pretraining seeds of unequal numbers of pairs: scipy's t-test of their three means."""
    values, clusters = [0.1, 0.2, 0.3, 0.1, 0.1, 0.5, 0.3, 0.2, 0.3], list("aaaabbbcc")
    means = [np.mean(values[:4]), np.mean(values[4:7]), np.mean(values[7:])]
    comparison = statistics.compare(values, clusters)
    expected = stats.ttest_1samp(means, 0, alternative="two-sided")
    assert comparison.mean == pytest.approx(np.mean(means))
    assert comparison.interval is not None
    assert comparison.test is not None
    interval = expected.confidence_interval(0.95)
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((interval.low, interval.high))
    assert comparison.test.p_value == pytest.approx(stats.ttest_1samp(means, 0, alternative="greater").pvalue)
    assert comparison.interval.method == "95% paired t over 3 pretraining seeds"
    assert statistics.t_test([0.2, 0.2]).p_value == 0.0
    assert statistics.t_test([-0.2, -0.2]).p_value == 1.0


def test_holm_is_the_closed_testing_of_bonferroni() -> None:
    """Independent route: p of a hypothesis is the largest Bonferroni p over all sets that hold it."""
    for seed in range(20):
        p = np.random.default_rng(seed).random(4) ** 3
        sets = [subset for size in range(1, 5) for subset in itertools.combinations(range(4), size)]
        expected = [max(min(1, len(each) * min(p[list(each)])) for each in sets if index in each) for index in range(4)]
        assert statistics.holm(list(p)) == pytest.approx(expected)


def coverage(draws: np.ndarray, truth: float, interval: Callable[[np.ndarray], statistics.Interval]) -> float:
    """Return the share of rows whose interval holds the truth."""
    return float(np.mean([not interval(row).excludes(truth) for row in draws]))


@pytest.mark.parametrize("pairs", [8, 20])
def test_paired_t_intervals_cover(pairs: int) -> None:
    draws = np.random.default_rng(11).normal(0.3, 1, (3000, pairs))
    assert 0.94 < coverage(draws, 0.3, statistics.paired_t_interval) < 0.96


def test_bca_intervals_cover_at_fifty_units() -> None:
    draws = np.random.default_rng(12).normal(0.3, 1, (1000, 50))
    assert 0.93 < coverage(draws, 0.3, lambda row: statistics.bca_interval(row, draws=1000)) < 0.97


@pytest.mark.slow
def test_intervals_cover_as_the_docs_say() -> None:
    """The table of docs/algorithms.md, section 12: 4,000 repetitions, 10,000 resamples as in a report."""
    rng = np.random.default_rng(13)
    for pairs, interval in ((8, statistics.paired_t_interval), (20, statistics.paired_t_interval), (50, statistics.bca_interval)):
        found = coverage(rng.normal(0, 1, (4000, pairs)), 0, interval)
        skewed = coverage(rng.exponential(1, (4000, pairs)), 1, interval)
        print(f"n = {pairs}: {found:.3f} normal, {skewed:.3f} exponential")
        assert 0.93 < found < 0.97
        assert 0.88 < skewed < 0.97


def test_clustered_intervals_cover_where_those_over_pairs_do_not() -> None:
    """Five pretraining seeds of six pairs, their luck as large as the noise of a pair."""
    rng = np.random.default_rng(14)
    draws = rng.normal(0, 1, (3000, 5, 1)) + rng.normal(0, 1, (3000, 5, 6))
    clusters = np.repeat(np.arange(5), 6).tolist()

    def clustered(row: np.ndarray) -> statistics.Interval:
        return statistics.paired_t_interval(statistics.cluster_means(row, clusters))

    flat = draws.reshape(3000, 30)
    assert 0.93 < coverage(flat, 0, clustered) < 0.97
    assert coverage(flat, 0, statistics.paired_t_interval) < 0.75
    assert coverage(flat, 0, resampled_hierarchically) < 0.90


def resampled_hierarchically(row: np.ndarray, draws: int = 200) -> statistics.Interval:
    """Percentile bootstrap of clusters, then of pairs within them: what five clusters are too few for."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 5, (draws, 5, 1))
    means = row.reshape(5, 6)[chosen, rng.integers(0, 6, (draws, 5, 6))].mean(axis=(1, 2))
    return statistics.Interval(*np.quantile(means, [0.025, 0.975]), "hierarchical bootstrap")
