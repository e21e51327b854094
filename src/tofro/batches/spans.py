"""Spans: runs of words to mask together, with random lengths at random places.

In: how many words each sequence has and how many of them to mask. Out: the words of the spans. Lengths follow a geometric
distribution cut off at a longest length, as in SpanBERT (Joshi et al. 2020, section 3.1): P(l) ∝ p (1 - p)^(l - 1) for
l = 1, ..., limit; 0.2 and 10 give a mean of 3.8 words. Two rules keep the rate exact: spans fill the number wanted, so the last
one drawn is shortened where need be; and a sequence's words form a ring, so that each is as likely to be masked as any other
(else a first word, which only one span can reach, would be masked a quarter as often). No loop runs over tokens, words or
spans. Legend: B sequences, S spans, K words to mask.
"""

from __future__ import annotations

import numpy as np

from tofro.batches.order import below, key, uniform
from tofro.batches.packing import ragged


def draw_spans(
    stream: int, samples: np.ndarray, counts: np.ndarray, wanted: np.ndarray, p: float, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cover ``wanted`` (B,) of the ``counts`` (B,) words of each of ``samples`` (B,) by spans.

    The words of all sequences are numbered from 0, one sequence after the other. Returns the words in spans (K,) and beside each
    the first word of its span (K,). Spans of a sequence do not overlap, and do not touch unless so much is wanted that they must.
    """
    row, lengths = _fill(key(stream, "lengths"), samples, wanted, p, limit)
    number = np.bincount(row, minlength=len(samples))  # (B,) spans of a row
    free = counts - wanted
    apart = number <= free  # there is a word left alone to put behind each span
    slots = np.where(apart, free, free + number)
    slot = _choose_slots(key(stream, "slots"), samples, slots, number)
    first = slot - np.where(apart[row], 0, _within(number)) + _before(lengths, number)
    first += below(counts, key(stream, "turn"), samples)[row]
    owner = np.repeat(row, lengths)  # (K,) row of each word
    base = (np.cumsum(counts) - counts)[owner]
    return base + ragged(first, lengths) % counts[owner], base + np.repeat(first, lengths) % counts[owner]


def _fill(stream: int, samples: np.ndarray, wanted: np.ndarray, p: float, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw span lengths for each row until they fill ``wanted``; return row and length of each span, (S,) both."""
    row = np.repeat(np.arange(len(samples)), wanted)  # of one word each they would be that many
    lot = uniform(stream, samples[row], _within(wanted))
    drawn = 1 + (np.log1p(-lot * (1 - (1 - p) ** limit)) / np.log1p(-p)).astype(np.int64)
    drawn = np.minimum(drawn, limit)
    left = wanted[row] - _before(drawn, wanted)
    kept = left > 0
    return row[kept], np.minimum(drawn, left)[kept]


def _choose_slots(stream: int, samples: np.ndarray, slots: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Choose ``number`` (B,) of the ``slots`` (B,) of each row, all choices equally likely; rising in each row, (S,)."""
    row = np.repeat(np.arange(len(samples)), slots)
    place = _within(slots)
    order = np.argsort(row + uniform(stream, samples[row], place))
    chosen = np.zeros(len(row), dtype=bool)
    chosen[order[place < number[row]]] = True
    return place[chosen]


def _within(counts: np.ndarray) -> np.ndarray:
    """Count 0, 1, ... within each row of ``counts`` (B,) entries."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _before(lengths: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum the ``lengths`` that come before each in its row; rows have ``counts`` (B,) of them."""
    total = np.concatenate([[0], np.cumsum(lengths)])
    return total[:-1] - np.repeat(total[np.cumsum(counts) - counts], counts)
