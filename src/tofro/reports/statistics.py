"""What a handful of seeds can and can't say.

In: differences between two arms, paired by unit (a seed, or a pretraining and a fine-tuning seed). Out: points, mean and, from
eight pairs on, an interval and a test. Below eight pairs there is neither: at n = 5 the smallest two-sided sign-flip p is 0.06.
Pairs that share a pretraining seed are one cluster: what is inferred over several of them rests on their means, one each.
Nothing here knows about runs, tables or units of display. scipy.special suffices and, unlike scipy.stats, is imported at once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

SMALLEST_PAIRS = 8  # below: no interval, no test, no verdict
BOOTSTRAP_UNITS = 30  # from here on the bootstrap's coverage can be trusted
ENUMERATED_PAIRS = 20  # 2^20 sign patterns are counted one by one, more are sampled


@dataclass(frozen=True)
class Interval:
    """A confidence interval and how it was made."""

    low: float
    high: float
    method: str

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside."""
        return not self.low <= value <= self.high


@dataclass(frozen=True)
class OneSided:
    """A one-sided p-value for "the mean difference is above 0" (below, where less is better) and how it was come by."""

    p_value: float
    method: str


@dataclass(frozen=True)
class Comparison:
    """Paired differences, summarised as far as their number allows."""

    differences: tuple[float, ...]
    mean: float  # of the clusters' means where there are several clusters
    sd: float  # of the differences, n - 1 below; nan for n < 2
    interval: Interval | None = None
    test: OneSided | None = None
    clusters: int = 1

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(self.differences)


def pair_by_unit(arm: Mapping[Hashable, float], reference: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return ``arm - reference`` for every unit that both have, in the arm's order."""
    return {unit: arm[unit] - reference[unit] for unit in arm if unit in reference}


def compare(differences: ArrayLike, clusters: Sequence[Hashable] | None = None, lower_is_better: bool = False) -> Comparison:
    """Summarise paired differences: points and mean, and from :data:`SMALLEST_PAIRS` on an interval and a one-sided test.

    ``clusters`` names the pretraining seed of each pair. Where there are several, their means are the units of interval and test:
    pairs of one pretrained encoder have its luck in common, and an interval over the pairs alone would be too short.
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0:
        return Comparison((), math.nan, math.nan)
    sd = float(values.std(ddof=1)) if values.size > 1 else math.nan
    points = tuple(values.tolist())
    means = values if clusters is None else cluster_means(values, clusters)
    count = 1 if clusters is None else len(set(clusters))
    units = means if count > 1 else values
    if values.size < SMALLEST_PAIRS or not np.isfinite(values).all():
        return Comparison(points, float(units.mean()), sd, clusters=count)
    interval = bca_interval(units) if units.size >= BOOTSTRAP_UNITS else paired_t_interval(units)
    wanted = -units if lower_is_better else units
    test = sign_flip(wanted) if units.size >= SMALLEST_PAIRS else t_test(wanted)
    if count > 1:
        over = f" over {count} pretraining seeds"
        interval, test = replace(interval, method=interval.method + over), replace(test, method=test.method + over)
    return Comparison(points, float(units.mean()), sd, interval, test, count)


def cluster_means(values: ArrayLike, clusters: Sequence[Hashable]) -> np.ndarray:
    """Return the mean of each cluster, in the order in which they first occur."""
    found: dict[Hashable, list[float]] = {}
    for value, cluster in zip(np.asarray(values, dtype=float).tolist(), clusters, strict=True):
        found.setdefault(cluster, []).append(value)
    return np.array([math.fsum(members) / len(members) for members in found.values()])


def paired_t_interval(differences: ArrayLike, level: float = 0.95) -> Interval:
    """mean ± t(n-1, (1 + level)/2) · sd / √n (Student 1908)."""
    values = np.asarray(differences, dtype=float)
    assert values.size >= 2, "an interval needs two differences"
    half = special.stdtrit(values.size - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(values.size)
    return Interval(float(values.mean() - half), float(values.mean() + half), f"{level:.0%} paired t")


def t_test(differences: ArrayLike) -> OneSided:
    """One-sided t-test of a mean above 0, for clusters too few for :func:`sign_flip` ever to tell (2^-5 is 0.03)."""
    values = np.asarray(differences, dtype=float)
    assert values.size > 1, "one value has no spread"
    error = values.std(ddof=1) / math.sqrt(values.size)
    if error == 0:
        return OneSided(0.0 if values.mean() > 0 else 1.0, "t-test")
    return OneSided(float(special.stdtr(values.size - 1, -values.mean() / error)), "t-test")


def sign_flip(differences: ArrayLike, draws: int = 100_000, seed: int = 0) -> OneSided:
    """One-sided sign-flip (Fisher randomisation) test of a mean above 0.

    p is the share of the 2^n sign patterns whose mean is at least the observed one; up to :data:`ENUMERATED_PAIRS` pairs
    all are counted, beyond that ``draws`` patterns are drawn and the observed one is counted among them.
    """
    values = np.asarray(differences, dtype=float)
    observed = values.sum() - 1e-12 * np.abs(values).sum()  # equal sums may differ in the last bit
    if values.size <= ENUMERATED_PAIRS:
        sums = np.zeros(1)
        for value in np.abs(values):
            sums = np.concatenate([sums + value, sums - value])
        return OneSided(float((sums >= observed).mean()), "exact sign flip")
    signs = np.random.default_rng(seed).integers(0, 2, size=(draws, values.size), dtype=np.int8) * 2 - 1
    reached = int((signs @ values >= observed).sum())
    return OneSided((reached + 1) / (draws + 1), f"sign flip, {draws:,} random patterns, seed {seed}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): the i-th smallest times n - i, never below the one before, at most 1."""
    order = np.argsort(np.asarray(p_values, dtype=float), kind="stable")
    adjusted = [0.0] * len(order)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(order) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def bca_interval(values: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Bias-corrected and accelerated bootstrap of the mean (Efron 1987), for :data:`BOOTSTRAP_UNITS` units or more."""
    sample = np.asarray(values, dtype=float)
    assert sample.size >= BOOTSTRAP_UNITS, "BCa intervals of few units cover too little"
    name = f"{level:.0%} BCa bootstrap"
    if np.ptp(sample) == 0:
        return Interval(float(sample[0]), float(sample[0]), name)
    draw = np.random.default_rng(seed).integers(0, sample.size, size=(draws, sample.size))
    means = sample[draw].mean(axis=1)
    below = (means < sample.mean()).mean() + (means == sample.mean()).mean() / 2
    bias = special.ndtri(below)
    pull = sample - sample.mean()  # each unit's influence, up to a factor that cancels
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    normal = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(means, special.ndtr(bias + normal / (1 - acceleration * normal)))
    return Interval(float(low), float(high), name)


def proportion_interval(share: float, count: int, level: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson 1934); ``share`` of ``count`` trials succeeded."""
    assert count > 0, "a proportion needs trials"
    assert 0 <= share <= 1, "a proportion lies in [0, 1]"
    hits = round(share * count)
    tail = (1 - level) / 2
    low = special.betaincinv(hits, count - hits + 1, tail) if hits > 0 else 0.0
    high = special.betaincinv(hits + 1, count - hits, 1 - tail) if hits < count else 1.0
    return Interval(float(low), float(high), f"{level:.0%} exact binomial")


def pairs_needed(sd: float, effect: float, power: float = 0.8, level: float = 0.95) -> int:
    """Pairs with which a two-sided paired t-test sees ``effect`` with ``power``, if differences have this ``sd``.

    From the noncentral t distribution; one point at sd 1.5 needs 20.
    """
    assert sd >= 0, "a standard deviation is not negative"
    assert effect > 0, "an effect of 0 is never seen"
    if sd == 0:
        return 2
    least = ((special.ndtri((1 + level) / 2) + special.ndtri(power)) * sd / effect) ** 2  # the normal limit, always too few
    pairs = max(2, math.ceil(least))
    while pairs < 1000 and _power(pairs, effect / sd, level) < power:
        pairs += 1
    return pairs


def _power(pairs: int, size: float, level: float) -> float:
    threshold = special.stdtrit(pairs - 1, (1 + level) / 2)
    shift = size * math.sqrt(pairs)
    return float(1 - special.nctdtr(pairs - 1, shift, threshold) + special.nctdtr(pairs - 1, shift, -threshold))
