"""Pretraining batches: samples of a store, drawn, packed and masked.

In: a token store, its tokenizer and the objective. Out: :class:`~tofro.batches.types.Batch` for any samples of any epoch, and
the fixed batches that evaluation uses. Order and data loading are in ``order.py`` and ``datamodules.py``.
"""

from __future__ import annotations

import numpy as np

from tofro.batches.masking import EVALUATION, Masker, MaskRule
from tofro.batches.order import evaluation_share, key, permute
from tofro.batches.packing import pack, to_batch
from tofro.batches.pairs import Spans, index_samples
from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer

EVALUATION_STREAM = key("evaluation")  # no run's seed enters it


class PretrainingBuilder:
    """Builds the packed batch of any samples of ``store``; equal arguments give equal batches."""

    def __init__(
        self, store: TokenStore, tokenizer: Tokenizer, objective: ObjectiveSettings, rule: MaskRule | None = None
    ) -> None:
        """Index the samples. ``rule`` replaces the objective's masking rule, as evaluation does."""
        store.require(tokenizer)
        own = MaskRule(objective.mask_rate, objective.mask_unit, objective.corruption, objective.span_p, objective.span_limit)
        self.store = store
        self.tokenizer = tokenizer
        self.samples = index_samples(store, objective, tokenizer.added(2))
        self.masker = Masker(tokenizer, rule or own) if objective.mlm_weight > 0 else None

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        return len(self.samples)

    def spans(self, stream: int, epoch: int, samples: np.ndarray) -> Spans:
        """Return where the segments of ``samples`` (B,) lie in the store."""
        return self.samples.draw(stream, epoch, samples)

    def tokens(self, stream: int, epoch: int, samples: np.ndarray) -> int:
        """Return how many tokens the batch of ``samples`` (B,) would have, special ones included, without building it."""
        spans = self.spans(stream, epoch, samples)
        special = self.tokenizer.added(1 if spans.labels is None else 2)
        return int(spans.first_length.sum() + spans.second_length.sum()) + special * len(samples)

    def build(self, stream: int, epoch: int, samples: np.ndarray) -> Batch:
        """Return the batch of ``samples`` (B,) int64 in ``epoch``; ``stream`` stands for the seed and the split."""
        spans = self.spans(stream, epoch, samples)
        parts = 1 if spans.labels is None else 2
        starts = np.stack([spans.first_start, spans.second_start], axis=1)[:, :parts]
        lengths = np.stack([spans.first_length, spans.second_length], axis=1)[:, :parts]
        packed = pack(self.store.ids, self.store.word_starts, starts, lengths, self.tokenizer)
        if self.masker is None:
            return to_batch(packed, samples, pair_labels=spans.labels)
        tokens, masked, targets = self.masker.mask(
            stream, epoch, packed.tokens, packed.starts, packed.positions, packed.sequence, samples
        )
        packed.tokens[:] = tokens
        return to_batch(packed, samples, masked, targets, spans.labels)


def evaluation_samples(n: int, limit: int | None) -> np.ndarray:
    """Choose ``limit`` of ``n`` samples (all where it is None), the same in every run; neighbours together, so labels balance."""
    if limit is None or limit >= n:
        return np.arange(n)
    couples = permute(EVALUATION_STREAM, n // 2, np.arange(min(-(-limit // 2), n // 2)))
    return np.sort(np.concatenate([2 * couples, 2 * couples + 1])[:limit])


def evaluation_batches(
    store: TokenStore,
    tokenizer: Tokenizer,
    objective: ObjectiveSettings,
    batch: int,
    limit: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> list[Batch]:
    """Return the evaluation batches of ``store``: 15% of words masked by 80/10/10 and pairs drawn, the same for every run.

    Sequences of like length share a batch, which costs nothing in order-free sums and spares padding; ``Batch.samples`` tells
    which is which. ``limit`` is a number of samples. Of several ranks each gets its part, the same number of batches.
    """
    builder = PretrainingBuilder(store, tokenizer, objective, EVALUATION)
    samples = evaluation_samples(len(builder), limit)
    spans = builder.spans(EVALUATION_STREAM, 0, samples)
    samples = samples[np.argsort(spans.first_length + spans.second_length, kind="stable")]
    return [builder.build(EVALUATION_STREAM, 0, part) for part in evaluation_share(samples, batch, rank, world_size)]


def evaluation_sentences(store: TokenStore, count: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose ``count`` sentences of ``store`` (all where it has fewer), the same in every run; cut each after ``longest`` tokens.

    Returns where they begin in the store's ids and their lengths, int64 both.
    """
    chosen = np.sort(permute(EVALUATION_STREAM, store.sentences, np.arange(min(count, store.sentences))))
    starts = np.asarray(store.sentence_offsets[chosen])
    return starts, np.minimum(store.sentence_offsets[chosen + 1] - starts, longest)


def sentence_batches(store: TokenStore, starts: np.ndarray, lengths: np.ndarray, tokenizer: Tokenizer, batch: int) -> list[Batch]:
    """Return the sentences at ``starts`` (S,) of ``lengths`` (S,) as [CLS] sentence [SEP], ``batch`` of like length together.

    ``Batch.samples`` tells which is which.
    """
    order = np.argsort(lengths, kind="stable")
    parts = [order[first : first + batch] for first in range(0, len(order), batch)]
    rows = [pack(store.ids, store.word_starts, starts[part, None], lengths[part, None], tokenizer) for part in parts]
    return [to_batch(packed, part) for packed, part in zip(rows, parts, strict=True)]
