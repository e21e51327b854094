"""Pretraining samples: which stretches of text make up a sequence, and how two of them relate.

In: a token store and the objective. Out: for any samples of any epoch, :class:`Spans` into the store's tokens, with pair
labels.

How a pair is made. A sample owns a few neighbouring sentence boundaries inside one document. In every epoch it draws one of
them; segment A grows backwards from it by whole sentences and segment B forwards, to shares of the length that are drawn
anew, until no further sentence fits. A single sentence that is too long on its own is cut to a window at a random place.
`swap` then exchanges A and B in half of the samples; `random` takes B from a boundary of another document in half of them.

Why so. Everything done to A is done to B as in a mirror, so lengths, punctuation and places tell nothing about their order
beyond what the text itself tells. Filling a chunk from the left and cutting it where it is full, as the public builders do,
makes the sentence beside the cut a long one, and shows which end was cut. Both segments have a sentence by construction: a
document of one sentence has no boundary inside, makes no pair, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tofro.batches.order import bits, key, uniform
from tofro.batches.settings import ObjectiveSettings
from tofro.tokens.store import TokenStore

BLOCK = 1 << 20  # sentences indexed at a time


@dataclass(frozen=True)
class Spans:
    """Where the segments of each sequence lie in the store's tokens; every array is (B,) int64."""

    first_start: np.ndarray
    first_length: np.ndarray
    second_start: np.ndarray
    second_length: np.ndarray  # 0 where a sequence has one segment
    labels: np.ndarray | None  # 0 in order / B follows A, 1 swapped / random; None without pairs


class Samples(Protocol):
    """The samples of a store under one objective."""

    counts: dict[str, int]

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""

    def draw(self, stream: int, epoch: int, samples: np.ndarray) -> Spans:
        """Return the spans of ``samples`` (B,) in ``epoch``; equal for equal arguments."""


def index_samples(store: TokenStore, objective: ObjectiveSettings, special: int = 3) -> Samples:
    """Return the samples that ``objective`` makes of ``store``; a pair has ``special`` tokens beside its own.

    Raises ValueError where the store makes none.
    """
    samples: Samples = WindowSamples(store, objective) if objective.pair == "none" else PairSamples(store, objective, special)
    if not len(samples):
        reason = "no document has two sentences, so there are no pairs; check corpus.path, or use objective=mlm"
        raise ValueError(f"corpus {store.name}: {reason}")
    return samples


class PairSamples:
    """Pairs of segments around a sentence boundary (module docstring)."""

    def __init__(self, store: TokenStore, objective: ObjectiveSettings, special: int = 3) -> None:
        """Index the sentence boundaries of ``store``; two int64 a sample."""
        self.store = store
        self.sentences = objective.unit == "sentence"
        self.random = objective.pair == "random"
        self.room = objective.length - special  # [CLS] A [SEP] B [SEP] has 3
        blocks = list(_boundary_blocks(store, self.room, self.sentences))
        self.lows = np.concatenate([np.zeros(0, dtype=np.int64), *(low for low, _ in blocks)])  # (n,) first boundary of a sample
        self.highs = np.concatenate([np.zeros(0, dtype=np.int64), *(high for _, high in blocks)])  # (n,) one past its last
        sizes = np.diff(store.document_offsets)
        self.counts = {
            "samples": len(self.lows),
            "documents": store.documents,
            "unpaired_documents": int((sizes == 1).sum()),
            "long_sentences": int((np.diff(store.sentence_offsets) > self.room).sum()),
        }
        if self.random and len(self.lows) and (sizes > 1).sum() < 2:
            raise ValueError(f"corpus {store.name}: objective.pair=random needs two documents of two sentences or more; use swap")

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        return len(self.lows)

    def draw(self, stream: int, epoch: int, samples: np.ndarray) -> Spans:
        """Return the pairs of ``samples`` (B,) in ``epoch``.

        Labels are drawn for two neighbouring samples at a time, one of each kind, so they balance exactly over an epoch.
        """
        stream = key(stream, "pairs", epoch)
        labels = (bits(stream, samples >> 1) & np.uint64(1)).astype(np.int64) ^ (samples & 1)
        lots = self._lots(stream, samples)
        here = self._boundary(samples, lots)
        there = here
        if self.random:
            other = self._elsewhere(lots, here)
            there = np.where(labels == 1, self._boundary(other, self._lots(stream, other)), here)
        a_start, a_end, b_start, b_end = self._grow(lots, here, there)
        a_start, a_length, b_start, b_length = self._cut(lots, (a_start, a_end), (b_start, b_end))
        if self.random:
            return Spans(a_start, a_length, b_start, b_length, labels)
        swapped = labels == 1
        return Spans(
            np.where(swapped, b_start, a_start),
            np.where(swapped, b_length, a_length),
            np.where(swapped, a_start, b_start),
            np.where(swapped, a_length, b_length),
            labels,
        )

    def _lots(self, stream: int, samples: np.ndarray) -> np.ndarray:
        """Draw everything that is drawn for a pair at once: (7, B) in [0, 1)."""
        return uniform(stream, samples, np.arange(7)[:, None])

    def _boundary(self, samples: np.ndarray, lots: np.ndarray) -> np.ndarray:
        """Draw one of each sample's boundaries; a boundary is named by the sentence after it."""
        low = self.lows[samples]
        return low + _pick(lots[0], self.highs[samples] - low)

    def _elsewhere(self, lots: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Draw for each sample another one, from another document."""
        start, end = self._document(here)
        before = np.searchsorted(self.lows, start)
        inside = np.searchsorted(self.lows, end) - before
        drawn = _pick(lots[1], len(self.lows) - inside)
        return drawn + np.where(drawn >= before, inside, 0)

    def _document(self, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first sentence, and the one past the last, of the documents that ``sentences`` lie in."""
        offsets = self.store.document_offsets
        number = np.searchsorted(offsets, sentences, side="right")
        return offsets[number - 1], offsets[number]

    def _grow(self, lots: np.ndarray, here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, ...]:
        """Grow A backwards from ``here`` and B forwards from ``there``; return token offsets: A's start, end, B's start, end."""
        offsets = self.store.sentence_offsets
        a_end, b_start = offsets[here], offsets[there]
        if self.sentences:
            return offsets[here - 1], a_end, b_start, offsets[there + 1]
        lowest, highest = self._document(here)[0], self._document(there)[1]

        def back(room: np.ndarray) -> np.ndarray:
            reached = np.searchsorted(offsets, a_end - room)
            return offsets[np.minimum(np.maximum(reached, lowest), here - 1)]

        def ahead(room: np.ndarray) -> np.ndarray:
            reached = np.searchsorted(offsets, b_start + room, side="right") - 1
            return offsets[np.maximum(np.minimum(reached, highest), there + 1)]

        share = (self.room * (0.25 + 0.5 * lots[2])).astype(np.int64)
        a_start, b_end = back(share), ahead(self.room - share)
        # What is left over goes to one side, then to the other; a coin says which is first, so that neither is longer on average.
        a_first = lots[3] < 0.5
        a_room = np.where(a_first, np.maximum(self.room - (b_end - b_start), a_end - a_start), a_end - a_start)
        a_start = back(a_room)
        b_end = ahead(np.maximum(self.room - (a_end - a_start), b_end - b_start))
        a_start = back(np.maximum(self.room - (b_end - b_start), a_end - a_start))
        return a_start, a_end, b_start, b_end

    def _cut(
        self, lots: np.ndarray, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """Cut what is longer than the room, the longer segment first, to windows at random places."""
        a_length, b_length = a[1] - a[0], b[1] - b[0]
        odd = np.where(lots[4] < 0.5, 0, self.room % 2)
        a_kept, b_kept = share_room(a_length, b_length, self.room, odd)
        a_start = a[0] + _pick(lots[5], a_length - a_kept + 1)
        b_start = b[0] + _pick(lots[6], b_length - b_kept + 1)
        return a_start, a_kept, b_start, b_kept


class WindowSamples:
    """One segment a sequence: each document in equal windows, so that every token is seen once an epoch.

    With unit `sentence`, each sentence by itself, in equal windows where it is too long.
    """

    def __init__(self, store: TokenStore, objective: ObjectiveSettings) -> None:
        """Index the windows of ``store``; two int64 a document or sentence."""
        room = objective.length - 2  # [CLS] A [SEP]
        sentences = store.sentence_offsets
        self.offsets = sentences if objective.unit == "sentence" else sentences[store.document_offsets]  # (P+1,) pieces of text
        windows = -(-np.diff(self.offsets) // room)
        self.firsts = np.concatenate([[0], np.cumsum(windows)])  # (P+1,) number of the first window of each piece
        self.counts = {"samples": int(self.firsts[-1]), "documents": store.documents}

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        return int(self.firsts[-1])

    def draw(self, stream: int, epoch: int, samples: np.ndarray) -> Spans:
        """Return the windows of ``samples`` (B,); they are the same in every epoch."""
        piece = np.searchsorted(self.firsts, samples, side="right") - 1
        start, size = self.offsets[piece], self.offsets[piece + 1] - self.offsets[piece]
        count, place = self.firsts[piece + 1] - self.firsts[piece], samples - self.firsts[piece]
        low, high = start + size * place // count, start + size * (place + 1) // count
        nothing = np.zeros_like(low)
        return Spans(low, high - low, nothing, nothing, None)


def share_room(a: np.ndarray, b: np.ndarray, room: int, odd: np.ndarray | int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shorten lengths ``a`` and ``b`` until they fit ``room`` together, the longer one first.

    ``odd`` (0 or 1) gives the token that can't be halved to a instead of b. Returns the new lengths.
    """
    half_a = room // 2 + odd
    half_b = room - half_a
    kept_a = np.where(a + b <= room, a, np.where(b < half_b, room - b, np.minimum(a, half_a)))
    kept_b = np.where(a + b <= room, b, room - kept_a)
    return kept_a, kept_b


def _pick(lot: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Turn numbers in [0, 1) into numbers in [0, ``choices``)."""
    return (lot * choices).astype(np.int64)


def _boundary_blocks(store: TokenStore, room: int, sentences: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Share out the boundaries inside documents to samples; yield the first and one past the last boundary of each.

    A document makes as many samples as its tokens fill the length (unit sentence: as pairs of sentences fit into it), each
    over an equal part of it, so the layout reads the same from both ends. A part without a boundary, inside a long sentence,
    makes no sample.
    """
    first = 0
    documents = store.document_offsets
    while first < store.documents:
        last = max(int(np.searchsorted(documents, documents[first] + BLOCK, side="right")) - 1, first + 1)
        bounds = documents[first : last + 1]
        sizes = np.diff(bounds) - 1  # boundaries inside each document
        owner = np.repeat(np.arange(last - first), sizes)  # (boundaries,) document of each
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        boundary = bounds[:-1][owner] + 1 + within
        if sentences:
            place, total, parts = within, sizes, -(-sizes // 2)
        else:
            starts = store.sentence_offsets[bounds]
            total = np.diff(starts)
            place = store.sentence_offsets[boundary] - starts[:-1][owner]
            parts = np.maximum(np.rint(total / room).astype(np.int64), 1)
        part = place * parts[owner] // total[owner]
        opens = np.ones(len(owner), dtype=bool)
        opens[1:] = (owner[1:] != owner[:-1]) | (part[1:] != part[:-1])
        low = boundary[opens]
        closes = np.append(opens[1:], True) if len(opens) else opens
        yield low, boundary[closes] + 1
        first = last
