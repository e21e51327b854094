"""Spans: lengths against their formula, places against chance, and the number wanted exactly."""

from __future__ import annotations

import numpy as np
import pytest

from tofro.batches.spans import draw_spans


def span_lengths(first: np.ndarray) -> np.ndarray:
    """Return how many words share each first word, for those that are one."""
    sizes = np.bincount(first)
    return sizes[sizes > 0]


def geometric(p: float, limit: int) -> np.ndarray:
    """P(l) for l = 0, ..., limit, written out."""
    weights = np.array([0.0] + [p * (1 - p) ** (length - 1) for length in range(1, limit + 1)])
    return weights / weights.sum()


def expected_counts(wanted: int, law: np.ndarray) -> np.ndarray:
    """Return how many spans of each length fill ``wanted`` words on average, the last one shortened: by renewal theory."""
    reached = np.zeros(wanted + 1)  # chance that a span ends exactly here
    reached[0] = 1
    for place in range(1, wanted + 1):
        reached[place] = sum(reached[place - length] * law[length] for length in range(1, min(place, len(law) - 1) + 1))
    counts = np.zeros(len(law))
    for place in range(wanted):
        for length in range(1, len(law)):
            counts[min(length, wanted - place)] += reached[place] * law[length]
    return counts


@pytest.mark.parametrize(("p", "limit"), [(0.2, 10), (0.5, 4), (0.9, 1)])
def test_lengths_follow_the_formula(p: float, limit: int) -> None:
    rows, wanted = 20_000, 15
    samples = np.arange(rows)
    words, first = draw_spans(1, samples, np.full(rows, 100), np.full(rows, wanted), p, limit)
    assert len(words) == rows * wanted
    found = np.bincount(span_lengths(first), minlength=limit + 1) / rows
    expected = expected_counts(wanted, geometric(p, limit))
    assert np.abs(found - expected).max() < 0.02
    assert len(found) == limit + 1


def test_many_spans_have_the_mean_of_the_paper() -> None:
    _, first = draw_spans(2, np.arange(4), np.full(4, 200_000), np.full(4, 30_000), 0.2, 10)
    assert span_lengths(first).mean() == pytest.approx(3.797, abs=0.05)  # 5 - 10 * 0.8**10 / (1 - 0.8**10)


def test_every_word_of_a_sequence_is_as_likely_as_any_other() -> None:
    rows, count = 40_000, 30
    words, _ = draw_spans(3, np.arange(rows), np.full(rows, count), np.full(rows, 6), 0.2, 10)
    shares = np.bincount(words % count, minlength=count) / rows
    assert np.abs(shares - 0.2).max() < 0.01  # the standard error is 0.002


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.9, 1.0])
def test_any_share_of_any_number_of_words_is_filled_without_overlap(share: float) -> None:
    counts = np.array([0, 1, 2, 3, 7, 40, 0, 500, 11])
    wanted = np.round(share * counts).astype(np.int64)
    samples = np.arange(len(counts)) + 5
    bounds = np.concatenate([[0], np.cumsum(counts)])
    words, first = draw_spans(4, samples, counts, wanted, 0.2, 10)
    assert len(np.unique(words)) == len(words)
    row = np.searchsorted(bounds, words, side="right") - 1
    assert np.bincount(row, minlength=len(counts)).tolist() == wanted.tolist()
    assert (row == np.searchsorted(bounds, first, side="right") - 1).all()
    # Each word of a span is the one after another of it, on the row's ring, or its first.
    local, size = words - bounds[row], counts[row]
    before = bounds[row] + (local - 1) % np.maximum(size, 1)
    leader = dict(zip(words.tolist(), first.tolist(), strict=True))
    assert all(word == start or leader.get(back) == start for word, start, back in zip(words, first, before, strict=True))


@pytest.mark.parametrize("wanted", [6, 15])
def test_spans_touch_only_where_they_must(wanted: int) -> None:
    """Of 30 words even 15 spans of one word each leave a word between them."""
    rows, count = 500, 30
    words, first = draw_spans(7, np.arange(rows), np.full(rows, count), np.full(rows, wanted), 0.2, 10)
    taken = np.zeros((rows, count), dtype=bool)
    taken[words // count, words % count] = True
    runs = taken & ~np.roll(taken, 1, axis=1)
    assert runs.sum() == len(np.unique(first))


def test_a_row_does_not_depend_on_its_company() -> None:
    samples, counts, wanted = np.array([3, 8, 21]), np.array([40, 11, 90]), np.array([6, 2, 13])
    together = draw_spans(5, samples, counts, wanted, 0.2, 10)
    base = 0
    for number in range(3):
        one = slice(number, number + 1)
        alone = draw_spans(5, samples[one], counts[one], wanted[one], 0.2, 10)
        inside = (together[0] >= base) & (together[0] < base + counts[number])
        assert (together[0][inside] - base).tolist() == alone[0].tolist()
        assert (together[1][inside] - base).tolist() == alone[1].tolist()
        base += counts[number]
    assert draw_spans(6, samples, counts, wanted, 0.2, 10)[0].tolist() != together[0].tolist()
