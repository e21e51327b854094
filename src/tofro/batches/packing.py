"""Packing: segments of token ids become one packed batch.

In: where the segments of each sequence lie in a long array of ids. Out: the arrays of a :class:`~tofro.batches.types.Batch`,
as numpy: [CLS] A [SEP] or [CLS] A [SEP] B [SEP], or with RoBERTa's tokenizers <s> A </s></s> B </s>, one sequence after the
other, without padding and without a loop over tokens. Legend: B sequences, T tokens of all sequences together, S segments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tofro.batches.types import NO_TARGET, Batch
from tofro.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Packed:
    """Packed sequences as numpy arrays."""

    tokens: np.ndarray  # (T,) int64
    positions: np.ndarray  # (T,) int64
    segments: np.ndarray  # (T,) int64
    sequence: np.ndarray  # (T,) int64, row of each token
    starts: np.ndarray  # (T,) bool, first token of a word
    offsets: np.ndarray  # (B+1,) int64


def ragged(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return start, start + 1, ... for each of ``starts`` (S,), ``lengths`` (S,) numbers each, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def pack(ids: np.ndarray, word_starts: np.ndarray, starts: np.ndarray, lengths: np.ndarray, tokenizer: Tokenizer) -> Packed:
    """Pack B sequences of one or two segments.

    ``ids`` and ``word_starts`` (N,) are the tokens to copy from; ``starts`` and ``lengths`` (B, 1) or (B, 2) say where each
    sequence's segments lie in them. The first token of a segment counts as the start of a word. How many [SEP] stand between two
    segments, and whether the second one is told apart in ``segments``, is the tokenizer's to say.
    """
    rows, parts = starts.shape
    offsets = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(lengths.sum(axis=1) + tokenizer.added(parts), out=offsets[1:])
    between = tokenizer.specials.separators
    places = (
        offsets[:-1, None] + 1 + np.cumsum(lengths + between, axis=1) - lengths - between
    )  # (B, parts), where each begins in T
    source, target = ragged(starts.ravel(), lengths.ravel()), ragged(places.ravel(), lengths.ravel())
    tokens = np.full(offsets[-1], tokenizer.sep_id, dtype=np.int64)
    tokens[offsets[:-1]] = tokenizer.cls_id
    tokens[target] = ids[source]
    begins = np.ones(offsets[-1], dtype=bool)
    begins[target] = word_starts[source]
    begins[places[lengths > 0]] = True
    sequence = np.repeat(np.arange(rows), np.diff(offsets))
    index = np.arange(offsets[-1])
    second = places[:, 1] if parts == 2 else offsets[1:]  # (B,) where segment 1 begins
    segments = (index >= second[sequence]).astype(np.int64) * tokenizer.specials.second
    return Packed(tokens, index - offsets[:-1][sequence], segments, sequence, begins, offsets)


def to_batch(
    packed: Packed,
    samples: np.ndarray,
    masked: np.ndarray | None = None,
    mask_targets: np.ndarray | None = None,
    pair_labels: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    tagged: np.ndarray | None = None,
    tags: np.ndarray | None = None,
) -> Batch:
    """Return ``packed`` as a batch of tensors, with the given targets (shapes in :class:`Batch`) and its own counts."""
    counts = {
        "samples": len(samples),
        "tokens": len(packed.tokens),
        "masked": 0 if masked is None else len(masked),
        "pairs": 0 if pair_labels is None else len(pair_labels),
        "tagged": 0 if tagged is None else int(np.count_nonzero(packed.positions[tagged])),
    }
    return Batch(
        tokens=torch.from_numpy(packed.tokens),
        positions=torch.from_numpy(packed.positions),
        segments=torch.from_numpy(packed.segments),
        cu_seqlens=torch.from_numpy(packed.offsets.astype(np.int32)),
        max_length=int(np.diff(packed.offsets).max(initial=0)),
        masked=_tensor(masked),
        mask_targets=_tensor(mask_targets),
        pair_labels=_tensor(pair_labels),
        labels=_tensor(labels),
        tagged=_tensor(tagged),
        tags=_tensor(tags),
        samples=_tensor(samples),
        counts=counts,
    )


def fill(batch: Batch) -> Batch:
    """Return ``batch`` with T, M and ``max_length`` raised to one of a few sizes, so that compiled code meets few shapes.

    T and M take eight sizes per octave, at most an eighth larger, ``max_length`` is a power of two. Sequences without text, of
    [PAD]-like token 0 at position 0, fill T; each is no longer than ``max_length``, so attention to them costs little. Targets
    that no loss counts, at the first of their tokens, fill M. ``counts`` stay those of the text.
    """
    tokens = batch.tokens.numel()
    longest = max(16, 1 << (batch.max_length - 1).bit_length())
    step = _step(tokens)
    fillers = step // (longest - 1) + 1
    filling = -(tokens + fillers) % step + fillers  # at least one token each
    ends = tokens + np.arange(1, fillers + 1) * filling // fillers
    nothing = torch.zeros(filling, dtype=torch.int64)
    filled = replace(
        batch,
        tokens=torch.cat([batch.tokens, nothing]),
        positions=torch.cat([batch.positions, nothing]),
        segments=torch.cat([batch.segments, nothing]),
        cu_seqlens=torch.cat([batch.cu_seqlens, torch.from_numpy(ends.astype(np.int32))]),
        max_length=longest,
        fillers=fillers,
        filling=filling,
    )
    if batch.masked is None or batch.mask_targets is None:
        return filled
    masked = -batch.masked.numel() % _step(batch.masked.numel())
    return replace(
        filled,
        masked=torch.cat([batch.masked, torch.full((masked,), tokens)]),
        mask_targets=torch.cat([batch.mask_targets, torch.full((masked,), NO_TARGET)]),
    )


def _step(count: int) -> int:
    """Return the distance between the sizes around ``count``: a power of two, an eighth of the octave."""
    return 1 << max(count.bit_length() - 4, 0)


def share_counts(batches: list[Batch]) -> list[Batch]:
    """Give every micro-batch of a rank the counts of all of them, the denominators of the step's losses."""
    total = {name: sum(batch.counts[name] for batch in batches) for name in batches[0].counts}
    return [replace(batch, counts=total) for batch in batches]


def _tensor(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)
