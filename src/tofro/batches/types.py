"""The packed batch: the one shape in which text reaches an encoder.

In: nothing. Out: :class:`Batch`. Sequences lie one after the other without padding, so linear layers see real tokens only.
A batch for compiled code is filled to one of a few sizes (packing.py: fill): its last sequences hold no text, and T and M count
what fills. Legend: B sequences, T tokens of all sequences together, M masked tokens, W tagged words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

NO_TARGET = -100  # torch's cross-entropy leaves it out


@dataclass(frozen=True)
class Batch:
    """A packed micro-batch and, where the objective needs them, its targets.

    ``counts`` holds what this rank's share of the global batch contains over all its micro-batches (``masked`` tokens, ``pairs``,
    ``samples``, ``tagged`` words that have a token), so that a loss is a sum divided by a global count and never a mean of means.
    A training batch also tells the ``global_tokens``, of all ranks.
    """

    tokens: Tensor  # (T,) int64
    positions: Tensor  # (T,) int64, from 0 in each sequence
    segments: Tensor  # (T,) int64, 0 or 1
    cu_seqlens: Tensor  # (B+1,) int32, offsets of the sequences in T; (B+fillers+1,) in a filled batch
    max_length: int
    masked: Tensor | None = None  # (M,) int64, indices into T
    mask_targets: Tensor | None = None  # (M,) int64, the original ids; -100, which no loss counts, where M is filled
    pair_labels: Tensor | None = None  # (B,) int64, 0 in order / B follows A, 1 swapped / random
    labels: Tensor | None = None  # (B,) int64 classes or float32 scores
    tagged: Tensor | None = None  # (W,) int64, index into T of each word's first token; of [CLS] where a word has none
    tags: Tensor | None = None  # (W,) int64 classes, of all words in their order
    samples: Tensor | None = None  # (B,) int64, indices of the samples in their split
    counts: dict[str, int] = field(default_factory=dict)
    fillers: int = 0  # sequences at the end without text
    filling: int = 0  # their tokens
    replay: Batch | None = None  # text of the corpus to be learnt beside the task's

    @property
    def size(self) -> int:
        """Number of sequences B that hold text."""
        return self.cu_seqlens.numel() - 1 - self.fillers

    @property
    def length(self) -> int:
        """Number of tokens of these sequences."""
        return self.tokens.numel() - self.filling

    @property
    def seen(self) -> Tensor:
        """Which of the tagged words have a token of their own, (W,) bool."""
        assert self.tagged is not None, "the batch has no tagged words"
        return self.positions[self.tagged] > 0  # [CLS] has position 0

    @property
    def texts(self) -> Tensor:
        """Which of the sequences each tagged word is in, (W,) int64, rising."""
        assert self.tagged is not None, "the batch has no tagged words"
        return torch.searchsorted(self.cu_seqlens[1:].long(), self.tagged, right=True)

    @property
    def targets(self) -> Tensor:
        """What the task's loss compares with: labels (B,), or tags (W,), NO_TARGET where a word has no token."""
        if self.tags is not None:
            return torch.where(self.seen, self.tags, NO_TARGET)
        assert self.labels is not None, "the batch has no labels"
        return self.labels

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with ``function`` applied to every tensor."""
        changed: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, torch.Tensor):
                changed[entry.name] = function(value)
            elif isinstance(value, Batch):
                changed[entry.name] = value.map(function)
        return replace(self, **changed)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``; Lightning calls this to move it."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the data loader calls this."""
        return self.map(lambda tensor: tensor.pin_memory())
