"""What pairs give away without being understood: features of lengths, punctuation and places only.

In: the pairs that an objective draws from a store, or untouched consecutive segments as a yardstick. Out: features and labels
for a classifier that `measures` fits. Where it does better on the drawn pairs than on the untouched ones, the builder leaks
the answer. No feature depends on which word stands where.
"""

from __future__ import annotations

import numpy as np

from tofro.batches.order import key, uniform
from tofro.batches.packing import ragged
from tofro.batches.pairs import Spans, index_samples
from tofro.batches.settings import ObjectiveSettings
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer

FINAL = (".", "!", "?", "。", "！", "？", "…")
STREAM = key("leaks")


def drawn_pairs(store: TokenStore, objective: ObjectiveSettings, count: int) -> Spans:
    """Return about ``count`` pairs as training would draw them, over as many epochs as that takes."""
    samples = index_samples(store, objective)
    epochs = -(-count // len(samples))
    return _join([samples.draw(STREAM, epoch, np.arange(len(samples))) for epoch in range(epochs)], count)


def untouched_pairs(store: TokenStore, objective: ObjectiveSettings, count: int) -> Spans:
    """Return ``count`` pairs of whole consecutive segments, one to three sentences each (one with unit `sentence`), never cut.

    Order and partner are drawn as in ``objective``; with `random`, B comes from another document in half of the pairs.
    """
    inside = np.ones(store.sentences, dtype=bool)
    inside[store.document_offsets[:-1]] = False
    boundaries = np.flatnonzero(inside)
    rows = np.arange(count)
    lots = uniform(STREAM, rows, np.arange(5)[:, None])  # (5, count)
    here = boundaries[(lots[0] * len(boundaries)).astype(np.int64)]
    labels = rows % 2
    documents = store.document_offsets
    number = np.searchsorted(documents, here, side="right")
    lowest = documents[number - 1]
    before = np.searchsorted(boundaries, lowest)
    own = np.searchsorted(boundaries, documents[number]) - before
    drawn = (lots[1] * (len(boundaries) - own)).astype(np.int64)
    there = here
    if objective.pair == "random":
        there = np.where(labels == 1, boundaries[drawn + np.where(drawn >= before, own, 0)], here)
    most = 1 if objective.unit == "sentence" else 3
    highest = documents[np.searchsorted(documents, there, side="right")]
    begin = np.maximum(here - 1 - (lots[2] * most).astype(np.int64), lowest)
    end = np.minimum(there + 1 + (lots[3] * most).astype(np.int64), highest)
    offsets = store.sentence_offsets
    a, b = (offsets[begin], offsets[here]), (offsets[there], offsets[end])
    swapped = (labels == 1) & (objective.pair == "swap")
    return Spans(
        np.where(swapped, b[0], a[0]),
        np.where(swapped, b[1] - b[0], a[1] - a[0]),
        np.where(swapped, a[0], b[0]),
        np.where(swapped, a[1] - a[0], b[1] - b[0]),
        labels,
    )


def leak_features(store: TokenStore, tokenizer: Tokenizer, spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, F) float64 and labels (n,) int64 of pairs."""
    assert spans.labels is not None, "there is no leak without labels"
    first = _segment_features(store, tokenizer, spans.first_start, spans.first_length)
    second = _segment_features(store, tokenizer, spans.second_start, spans.second_length)
    return np.concatenate([first, second, first - second, first[:, :2] * second[:, :2]], axis=1), spans.labels


def _segment_features(store: TokenStore, tokenizer: Tokenizer, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Describe segments (n,): their lengths, where they hold punctuation, how they begin and end."""
    final = np.array([text in FINAL for text in tokenizer.written])
    row = np.repeat(np.arange(len(starts)), lengths)
    ids = np.asarray(store.ids)[ragged(starts, lengths)]
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    marks = tokenizer.punctuation[ids]
    count = np.bincount(row, weights=marks, minlength=len(starts))
    finals = np.bincount(row, weights=final[ids], minlength=len(starts))
    mean_place = np.bincount(row, weights=marks * place, minlength=len(starts)) / np.maximum(count, 1) / lengths
    head, tail = store.ids[starts], store.ids[starts + lengths - 1]
    after = np.minimum(starts + lengths, store.tokens - 1)
    return np.stack(
        [
            np.log(lengths),
            lengths,
            count,
            count / lengths,
            finals,
            mean_place,
            tokenizer.punctuation[head],
            store.word_starts[starts],
            tokenizer.punctuation[tail],
            final[tail],
            store.word_starts[after],
        ],
        axis=1,
    ).astype(np.float64)


def _join(parts: list[Spans], count: int) -> Spans:
    labels = [part.labels for part in parts if part.labels is not None]
    return Spans(
        np.concatenate([part.first_start for part in parts])[:count],
        np.concatenate([part.first_length for part in parts])[:count],
        np.concatenate([part.second_start for part in parts])[:count],
        np.concatenate([part.second_length for part in parts])[:count],
        np.concatenate(labels)[:count],
    )
