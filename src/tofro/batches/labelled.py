"""Task batches: labelled examples, tokenised once, packed for any choice of samples.

In: examples with one text or two, or with words, a tokenizer, the longest sequence. Out: :class:`~tofro.batches.types.Batch` with
labels: int64 class numbers, or float32 scores; or with the tags of words (tags.py). Texts that do not fit are cut at their ends,
the longer one first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from tofro.batches.order import evaluation_share
from tofro.batches.packing import pack, to_batch
from tofro.batches.pairs import share_room
from tofro.batches.tags import WordTags, number_tags, tokenise_words
from tofro.batches.types import Batch
from tofro.tokens.beginnings import PER_TOKEN, beginning
from tofro.tokens.tokenizer import Tokenizer

BLOCK = 4096  # texts tokenised at a time


class Labelled(Protocol):
    """What a batch needs of an example."""

    @property
    def text_a(self) -> str:
        """First text."""

    @property
    def text_b(self) -> str | None:
        """Second text of a pair."""

    @property
    def label(self) -> str | float | tuple[str, ...]:
        """Name of the class, or score, or the tag of each word."""

    @property
    def words(self) -> tuple[str, ...]:
        """The words where they are tagged, else none."""


class LabelledBuilder:
    """Builds the packed batch of any of ``examples``.

    ``labels`` are the names of classes or tags in order; an empty tuple means scores, None means that labels are left out. Raises
    ValueError for a label that is not among them. ``cut`` counts the examples that were too long, ``lost`` the words without a
    token and the examples that have any.
    """

    def __init__(
        self, examples: Sequence[Labelled], tokenizer: Tokenizer, max_length: int, labels: tuple[str, ...] | None = None
    ) -> None:
        """Tokenise the texts."""
        self.tokenizer = tokenizer
        self.pair = bool(examples) and examples[0].text_b is not None
        self.tags: WordTags | None = None
        self.labels: np.ndarray | None = None
        parts = 2 if self.pair else 1
        room = max_length - tokenizer.added(parts)
        given = [example.label for example in examples]
        if examples and examples[0].words:
            words = tokenise_words([[seen(word, room, tokenizer) for word in example.words] for example in examples], tokenizer)
            self.ids, self.word_starts, offsets = words.ids, words.word_starts, words.offsets
            self.tags = WordTags(words, room, None if labels is None else number_tags(given, labels))
        else:
            first = [seen(example.text_a, room, tokenizer) for example in examples]
            second = [seen(example.text_b or "", room, tokenizer) for example in examples] if self.pair else []
            self.ids, self.word_starts, offsets = _encode(first + second, tokenizer)
            self.labels = None if labels is None else number_labels(given, labels)
        self.starts = offsets[:-1].reshape(parts, -1).T  # (n, parts)
        lengths = np.diff(offsets).reshape(parts, -1).T
        if self.pair:
            self.lengths = np.stack(share_room(lengths[:, 0], lengths[:, 1], room, room % 2), axis=1)
        else:
            self.lengths = np.minimum(lengths, room)
        self.cut = int((self.lengths != lengths).any(axis=1).sum())

    @property
    def lost(self) -> tuple[int, int]:
        """How many tagged words have no token, and in how many examples."""
        lost = np.zeros(0, dtype=np.int64) if self.tags is None else self.tags.lost
        return int(lost.sum()), int((lost > 0).sum())

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.starts)

    def tokens(self, samples: np.ndarray) -> int:
        """Return how many tokens the batch of ``samples`` (B,) would have, special ones included, without building it."""
        return int(self.lengths[samples].sum()) + self.tokenizer.added(self.lengths.shape[1]) * len(samples)

    def build(self, samples: np.ndarray) -> Batch:
        """Return the batch of ``samples`` (B,) int64."""
        packed = pack(self.ids, self.word_starts, self.starts[samples], self.lengths[samples], self.tokenizer)
        tagged, tags = (None, None) if self.tags is None else self.tags.of(samples, packed.offsets)
        labels = None if self.labels is None else self.labels[samples]
        return to_batch(packed, samples, labels=labels, tagged=tagged, tags=tags)

    def batches(self, batch: int, rank: int = 0, world_size: int = 1) -> list[Batch]:
        """Return all examples, or this rank's part of them, in batches of like length; ``Batch.samples`` tells which is which."""
        order = np.argsort(self.lengths.sum(axis=1), kind="stable")
        return [self.build(part) for part in evaluation_share(order, batch, rank, world_size)]

    def by_tokens(self, most: int) -> Iterator[Batch]:
        """Yield all examples in batches of like length and of about ``most`` tokens, the shortest first."""
        order = np.argsort(self.lengths.sum(axis=1), kind="stable")
        ends = np.cumsum(self.lengths[order].sum(axis=1) + 1 + self.lengths.shape[1])
        for part in np.split(order, np.flatnonzero(np.diff((ends - 1) // most)) + 1) if len(order) else ():
            yield self.build(part)


def task_batches(
    examples: Sequence[Labelled], tokenizer: Tokenizer, max_length: int, batch: int, labels: tuple[str, ...] | None = None
) -> list[Batch]:
    """Return packed batches of ``examples``, in order of length; see :class:`LabelledBuilder` for ``labels``."""
    return LabelledBuilder(examples, tokenizer, max_length, labels).batches(batch)


def _encode(texts: list[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokenise ``texts`` block by block; return ids (N,), word starts (N,) and offsets (texts + 1,)."""
    blocks = [tokenizer.encode_flat(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]
    ids = np.concatenate([np.zeros(0, dtype=np.int32), *(block.ids for block in blocks)])
    starts = np.concatenate([np.zeros(0, dtype=bool), *(block.word_starts for block in blocks)])
    lengths = np.concatenate([np.zeros(0, dtype=np.int64), *(np.diff(block.offsets) for block in blocks)])
    return ids, starts, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


def number_labels(values: Sequence[object], labels: tuple[str, ...]) -> np.ndarray:
    """Return class numbers (n,) int64 by the order of ``labels``, or scores (n,) float32 where there are none."""
    if not labels:
        return np.array(values, dtype=np.float32)
    number = {label: place for place, label in enumerate(labels)}
    unknown = sorted({str(value) for value in values if value not in number})
    if unknown:
        raise ValueError(f"task.path: label {unknown[0]!r} does not occur in the training split (known: {', '.join(labels)})")
    return np.array([number[str(value)] for value in values], dtype=np.int64)


def seen(text: str, room: int, tokenizer: Tokenizer) -> str:
    """Return what is to be tokenised of a text of which ``room`` tokens fit: of a very long one, its beginning."""
    return text if len(text) <= PER_TOKEN * room else beginning(text, room, tokenizer)
