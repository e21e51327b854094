"""Order as a function: permutations, batches, shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tofro.batches.order import below, bits, global_batch, key, permute, rank_share, steps_per_epoch, uniform


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 3000), stream=st.integers(0, 2**64 - 1))
def test_permutation_is_a_bijection(n: int, stream: int) -> None:
    assert np.array_equal(np.sort(permute(stream, n, np.arange(n))), np.arange(n))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 2**50), places=st.lists(st.integers(0, 2**50), min_size=1, max_size=20), stream=st.integers(0, 2**64 - 1))
def test_permutation_is_computed_element_by_element(n: int, places: list[int], stream: int) -> None:
    """No element depends on which others are asked for, and nothing grows with n."""
    wanted = np.array(places) % n
    together = permute(stream, n, wanted)
    assert ((together >= 0) & (together < n)).all()
    assert [int(permute(stream, n, np.array([place]))[0]) for place in wanted] == together.tolist()


def test_permutations_are_spread_evenly() -> None:
    """Over many keys every element lands everywhere equally often, independently of its neighbour."""
    n, keys = 20, 3000
    drawn = np.array([permute(key("spread", number), n, np.arange(n)) for number in range(keys)])
    counts = np.array([np.bincount(drawn[:, place], minlength=n) for place in range(n)])
    chi = ((counts - keys / n) ** 2 / (keys / n)).sum() / (n - 1) ** 2
    assert 0.7 < chi < 1.3
    assert abs((np.diff(drawn, axis=1) == 1).mean() * n - 1) < 0.15


def test_keys_and_bits_never_change() -> None:
    """Fixed values: a change here changes every run's data order."""
    assert key(0, "task", "order", 3) == 12711227436874351938
    assert int(bits(5, 7)[0]) == 9428158358266441515
    assert permute(9, 1000, np.arange(4)).tolist() == [464, 82, 302, 679]
    assert len({key(1, "a"), key(1, "b"), key(2, "a"), key("1", "a"), key(1, "a", 0)}) == 5


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    grid = uniform(11, np.arange(300)[:, None], np.arange(300))
    assert grid.shape == (300, 300)
    assert grid.min() >= 0
    assert grid.max() < 1
    counts = np.histogram(grid, bins=50, range=(0, 1))[0]
    assert ((counts - 1800) ** 2 / 1800).sum() < 95  # chi square with 49 degrees of freedom, p about 1e-4
    again = uniform(12, np.arange(300)[:, None], np.arange(300))
    for one, other in ((grid[:-1], grid[1:]), (grid[:, :-1], grid[:, 1:]), (grid, again)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015
    assert np.array_equal(np.unique(below(7, 11, np.arange(500))), np.arange(7))


def test_an_epoch_sees_each_sample_once_and_epochs_differ() -> None:
    n, batch = 103, 10
    per_epoch = steps_per_epoch(batch, n)
    epochs = []
    for first in range(0, 3 * per_epoch, per_epoch):
        drawn = [global_batch(4, "x", step, batch, n) for step in range(first, first + per_epoch)]
        assert {epoch for epoch, _ in drawn} == {first // per_epoch}
        seen = np.concatenate([samples for _, samples in drawn])
        assert len(set(seen.tolist())) == len(seen) == per_epoch * batch
        epochs.append(seen.tolist())
    assert epochs[0] != epochs[1] != epochs[2]
    assert global_batch(5, "x", 0, batch, n)[1].tolist() != epochs[0][:batch]
    assert global_batch(4, "y", 0, batch, n)[1].tolist() != epochs[0][:batch]


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 1), (2, 1), (4, 1), (1, 4), (2, 2), (2, 6)])
def test_the_shares_of_all_ranks_make_the_global_batch(ranks: int, accumulate: int) -> None:
    samples = np.arange(100, 124)
    shares = [rank_share(samples, rank, ranks, accumulate) for rank in range(ranks)]
    assert all(len(share) == accumulate for share in shares)
    assert np.array_equal(np.concatenate([part for share in shares for part in share]), samples)


def test_impossible_batches_name_their_keys() -> None:
    with pytest.raises(ValueError, match=r"budget\.batch=24 .*trainer\.devices=5 x budget\.accumulate=1"):
        rank_share(np.arange(24), 0, 5, 1)
    with pytest.raises(ValueError, match=r"7 training samples .* budget\.batch"):
        steps_per_epoch(8, 7)
