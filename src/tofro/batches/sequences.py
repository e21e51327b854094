"""Any token sequences as packed batches: what comes twice once, what is alike in length together.

In: sequences of one or two segments of ids, without special tokens. Out: packed batches that say which sequences they hold.
Leaves out where the sequences come from (modules/prompting.py fills templates) and what is asked of the model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from tofro.batches.packing import pack, to_batch
from tofro.batches.types import Batch
from tofro.tokens.tokenizer import Tokenizer


def distinct(keys: Iterable[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Return where each different key first occurs (S,), and for every key which of these it is (n,)."""
    known: dict[Hashable, int] = {}
    places = np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
    return np.unique(places, return_index=True)[1], places


def packed_by_length(
    sequences: Sequence[tuple[np.ndarray, ...]], tokenizer: Tokenizer, size: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield (indices into ``sequences`` (B,), packed batch), the shortest first and ``size`` at a time, so little is padded."""
    lengths = np.array([[len(part) for part in sequence] for sequence in sequences])  # (S, 1) or (S, 2)
    order = np.argsort(lengths.sum(1), kind="stable")
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        flat = np.concatenate([part for index in chosen for part in sequences[index]])
        sizes = lengths[chosen]
        starts = (np.cumsum(sizes.ravel()) - sizes.ravel()).reshape(sizes.shape)
        yield chosen, to_batch(pack(flat, np.ones(len(flat), bool), starts, sizes, tokenizer), chosen)
