"""Masks: rates, whole words, independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest

from tofro.batches.masking import Masker, MaskRule
from tofro.batches.packing import Packed, pack
from tofro.batches.pretraining import PretrainingBuilder, evaluation_batches
from tofro.batches.settings import ObjectiveSettings
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer


def sequences(store: TokenStore, tokenizer: Tokenizer, count: int, length: int) -> tuple[Packed, np.ndarray]:
    samples = np.arange(count)
    packed = pack(store.ids, store.word_starts, samples[:, None] * length, np.full((count, 1), length), tokenizer)
    return packed, samples


def masks(masker: Masker, packed: Packed, samples: np.ndarray, stream: int = 1, epoch: int = 0) -> tuple[np.ndarray, ...]:
    return masker.mask(stream, epoch, packed.tokens, packed.starts, packed.positions, packed.sequence, samples)


@pytest.mark.parametrize("unit", ["word", "token"])
def test_shares_hold_on_a_hundred_thousand_tokens(store: TokenStore, tokenizer: Tokenizer, unit: str) -> None:
    """15% of words; of their tokens 80% [MASK], 10% random, 10% kept, each within a point."""
    length = 50
    packed, samples = sequences(store, tokenizer, 100_000 // length, length)
    # Five draws, so that the 15,000 tokens of one do not blur the shares.
    draws = [masks(Masker(tokenizer, MaskRule(unit=unit)), packed, samples, epoch=epoch) for epoch in range(5)]
    begins = packed.starts if unit == "word" else np.ones_like(packed.starts)
    words = begins & ~tokenizer.special[packed.tokens]
    chosen = np.mean([words[masked].sum() / words.sum() for _, masked, _ in draws])
    assert abs(chosen - 0.15) < 0.002
    seen = np.concatenate([tokens[masked] for tokens, masked, _ in draws])
    targets = np.concatenate([target for _, _, target in draws])
    ordinary = (~tokenizer.special).sum()
    assert abs((seen == tokenizer.mask_id).mean() - 0.8) < 0.01
    assert abs((seen == targets).mean() - (0.1 + 0.1 / ordinary)) < 0.01
    replaced = seen[(seen != targets) & (seen != tokenizer.mask_id)]
    assert abs(len(replaced) / len(seen) - 0.1 * (1 - 1 / ordinary)) < 0.01
    assert not tokenizer.special[replaced].any()
    counts = np.bincount(replaced, minlength=tokenizer.vocabulary)[~tokenizer.special]
    assert counts.min() > 0.5 * counts.mean()


def test_mask_only_and_what_is_left_alone(store: TokenStore, tokenizer: Tokenizer) -> None:
    packed, samples = sequences(store, tokenizer, 200, 40)
    packed.tokens[packed.tokens == packed.tokens[5]] = tokenizer.unk_id
    before = packed.tokens.copy()
    tokens, masked, targets = masks(Masker(tokenizer, MaskRule(rate=0.9, corruption="mask_only")), packed, samples)
    assert np.array_equal(packed.tokens, before)
    assert (tokens[masked] == tokenizer.mask_id).all()
    assert np.array_equal(targets, before[masked])
    assert not tokenizer.special[targets].any()
    untouched = np.setdiff1d(np.arange(len(tokens)), masked)
    assert np.array_equal(tokens[untouched], before[untouched])
    assert (np.diff(masked) > 0).all()


def test_words_are_masked_whole(store: TokenStore, tokenizer: Tokenizer) -> None:
    packed, samples = sequences(store, tokenizer, 300, 40)
    _, masked, _ = masks(Masker(tokenizer, MaskRule()), packed, samples)
    word = np.cumsum(packed.starts)
    chosen = np.isin(np.arange(len(word)), masked)
    sizes, hits = np.bincount(word), np.bincount(word, weights=chosen)
    assert ((hits == 0) | (hits == sizes)).all()
    assert (sizes[hits > 0] > 1).any()


def test_single_tokens_split_words(store: TokenStore, tokenizer: Tokenizer) -> None:
    packed, samples = sequences(store, tokenizer, 300, 40)
    _, masked, _ = masks(Masker(tokenizer, MaskRule(unit="token")), packed, samples)
    word = np.cumsum(packed.starts)
    sizes, hits = np.bincount(word), np.bincount(word[masked], minlength=word[-1] + 1)
    assert ((hits > 0) & (hits < sizes)).any()


def test_every_sequence_with_a_word_has_a_mask(store: TokenStore, tokenizer: Tokenizer) -> None:
    packed, samples = sequences(store, tokenizer, 100, 2)
    packed.tokens[1:3] = tokenizer.unk_id  # the first sequence has no word that could be predicted
    _, masked, _ = masks(Masker(tokenizer, MaskRule(rate=0.01)), packed, samples)
    per_sequence = np.bincount(packed.sequence[masked], minlength=100)
    assert per_sequence[0] == 0
    assert (per_sequence[1:] > 0).all()


def test_a_sample_has_one_mask_whatever_its_batch(store: TokenStore, tokenizer: Tokenizer) -> None:
    builder = PretrainingBuilder(store, tokenizer, ObjectiveSettings(length=64))
    whole = builder.build(3, 2, np.arange(40))
    bounds = whole.cu_seqlens.tolist()
    for row in (0, 17, 39):
        alone = builder.build(3, 2, np.array([row]))
        assert alone.tokens.tolist() == whole.tokens[bounds[row] : bounds[row + 1]].tolist()
        assert whole.masked is not None
        assert alone.masked is not None
        inside = (whole.masked >= bounds[row]) & (whole.masked < bounds[row + 1])
        assert alone.masked.tolist() == (whole.masked[inside] - bounds[row]).tolist()
    assert builder.build(3, 3, np.arange(40)).masked.tolist() != whole.masked.tolist()  # type: ignore[union-attr]
    assert builder.build(4, 2, np.arange(40)).masked.tolist() != whole.masked.tolist()  # type: ignore[union-attr]


def test_evaluation_masks_ignore_the_training_rule(store: TokenStore, tokenizer: Tokenizer) -> None:
    usual = evaluation_batches(store, tokenizer, ObjectiveSettings(length=64), 16, 64)
    other = evaluation_batches(
        store, tokenizer, ObjectiveSettings(length=64, mask_rate=0.4, mask_unit="token", corruption="mask_only"), 16, 64
    )
    for mine, theirs in zip(usual, other, strict=True):
        assert mine.tokens.equal(theirs.tokens)
        assert mine.masked is not None
        assert theirs.masked is not None
        assert mine.masked.equal(theirs.masked)
