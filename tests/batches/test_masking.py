"""Masks: rates, whole words, independence of the batch."""

from __future__ import annotations

import random

import numpy as np
import pytest
import rjieba

from tofro.batches.masking import Masker, MaskRule
from tofro.batches.packing import Packed, pack
from tofro.batches.pretraining import PretrainingBuilder, evaluation_batches
from tofro.batches.settings import ObjectiveSettings
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer


def sequences(store: TokenStore, tokenizer: Tokenizer, count: int, length: int) -> tuple[Packed, np.ndarray]:
    samples = np.arange(count)
    packed = pack(store.ids, store.word_starts, samples[:, None] * length, np.full((count, 1), length), tokenizer)
    return packed, samples


def masks(masker: Masker, packed: Packed, samples: np.ndarray, stream: int = 1, epoch: int = 0) -> tuple[np.ndarray, ...]:
    return masker.mask(stream, epoch, packed.tokens, packed.starts, packed.positions, packed.sequence, samples)


@pytest.mark.parametrize("unit", ["word", "span", "token"])
def test_shares_hold_on_a_hundred_thousand_tokens(store: TokenStore, tokenizer: Tokenizer, unit: str) -> None:
    """15% of words; of their tokens 80% [MASK], 10% random, 10% kept, each within a point."""
    length = 50
    packed, samples = sequences(store, tokenizer, 100_000 // length, length)
    # Five draws, so that the 15,000 tokens of one do not blur the shares.
    draws = [masks(Masker(tokenizer, MaskRule(unit=unit)), packed, samples, epoch=epoch) for epoch in range(5)]
    begins = np.ones_like(packed.starts) if unit == "token" else packed.starts
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


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_are_masked_whole(store: TokenStore, tokenizer: Tokenizer, unit: str) -> None:
    packed, samples = sequences(store, tokenizer, 300, 40)
    _, masked, _ = masks(Masker(tokenizer, MaskRule(unit=unit)), packed, samples)
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


def test_spans_are_runs_of_neighbouring_words_with_one_fate(store: TokenStore, tokenizer: Tokenizer) -> None:
    """Most runs of chosen words are longer than one, no longer than the limit, and are replaced in one way."""
    packed, samples = sequences(store, tokenizer, 500, 60)
    tokens, masked, targets = masks(Masker(tokenizer, MaskRule(unit="span", span_limit=4)), packed, samples)
    runs = np.split(masked, np.flatnonzero(np.diff(masked) > 1) + 1)
    words = [packed.starts[run].sum() for run in runs]
    assert np.mean(words) > 1.8
    # Two spans touch over the end of a sequence only, where [SEP] and [CLS] stand between them.
    assert max(words) == 4
    gone = tokens[masked] == tokenizer.mask_id
    fates = np.split(gone, np.flatnonzero(np.diff(masked) > 1) + 1)
    assert all(len(set(fate.tolist())) == 1 for fate in fates)
    kept = np.split(tokens[masked] == targets, np.flatnonzero(np.diff(masked) > 1) + 1)
    assert sum(fate.all() for fate in kept) == pytest.approx(0.1 * len(runs), rel=0.2)
    alone = masks(Masker(tokenizer, MaskRule(unit="span", corruption="mask_only")), packed, samples)
    assert (alone[0][alone[1]] == tokenizer.mask_id).all()


@pytest.mark.parametrize("unit", ["word", "span"])
def test_an_unknown_token_inside_a_word_leaves_the_rest_of_it_to_predict(
    store: TokenStore, tokenizer: Tokenizer, unit: str
) -> None:
    packed, samples = sequences(store, tokenizer, 2000, 20)
    inside = np.flatnonzero(~packed.starts & ~tokenizer.special[packed.tokens])
    packed.tokens[inside[::2]] = tokenizer.unk_id
    first = np.flatnonzero(packed.starts[:-1] & ~packed.starts[1:] & ~tokenizer.special[packed.tokens[1:]])
    packed.tokens[first] = tokenizer.unk_id
    _, masked, targets = masks(Masker(tokenizer, MaskRule(unit=unit)), packed, samples)
    assert not tokenizer.special[targets].any()
    chosen = np.isin(np.arange(len(packed.tokens)), masked)
    assert chosen[first + 1].mean() == pytest.approx(0.15, abs=0.02)
    word, allowed = np.cumsum(packed.starts), ~tokenizer.special[packed.tokens]
    sizes, hits = np.bincount(word, weights=allowed), np.bincount(word, weights=chosen)
    assert ((hits == 0) | (hits == sizes)).all()


@pytest.mark.parametrize("unit", ["word", "span"])
def test_every_sequence_with_a_word_has_a_mask(store: TokenStore, tokenizer: Tokenizer, unit: str) -> None:
    packed, samples = sequences(store, tokenizer, 100, 2)
    packed.tokens[1:3] = tokenizer.unk_id  # the first sequence has no word that could be predicted
    _, masked, _ = masks(Masker(tokenizer, MaskRule(rate=0.01, unit=unit)), packed, samples)
    per_sequence = np.bincount(packed.sequence[masked], minlength=100)
    assert per_sequence[0] == 0
    assert (per_sequence[1:] > 0).all()


@pytest.mark.parametrize("unit", ["word", "span", "token"])
def test_a_sample_has_one_mask_whatever_its_batch(store: TokenStore, tokenizer: Tokenizer, unit: str) -> None:
    builder = PretrainingBuilder(store, tokenizer, ObjectiveSettings(length=64, mask_unit=unit))
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


@pytest.mark.parametrize("unit", ["span", "token"])
def test_evaluation_masks_ignore_the_training_rule(store: TokenStore, tokenizer: Tokenizer, unit: str) -> None:
    usual = evaluation_batches(store, tokenizer, ObjectiveSettings(length=64), 16, 64)
    other = evaluation_batches(
        store, tokenizer, ObjectiveSettings(length=64, mask_rate=0.4, mask_unit=unit, corruption="mask_only"), 16, 64
    )
    for mine, theirs in zip(usual, other, strict=True):
        assert mine.tokens.equal(theirs.tokens)
        assert mine.masked is not None
        assert theirs.masked is not None
        assert mine.masked.equal(theirs.masked)


COMMON = "我们 今天 学习 中国 历史 铁路 车站 货物 城市 学校 老师 河流 问题 开始 发展 经济 的 在 了 和 是 有".split()  # noqa: SIM905
WRITTEN = "".join(random.Random(3).choices([*COMMON, "，", "。", "iPhone 15 ", "unbelievable "], k=12_000))


@pytest.fixture(scope="module")
def chinese() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=256), [WRITTEN])


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("words", ["segmenter", "tokenizer"])
def test_masks_hide_whole_chinese_words_where_a_segmenter_finds_them(chinese: Tokenizer, words: str, unit: str) -> None:
    flat = chinese.encode_flat([WRITTEN], words)
    length = 100
    count = len(flat.ids) // length
    samples = np.arange(count)
    packed = pack(flat.ids, flat.word_starts, samples[:, None] * length, np.full((count, 1), length), chinese)
    # Both ends of a sequence may cut a word; what the segmenter says is read from the text itself, not from the store.
    owner = np.concatenate([[number] * len(chinese.encode([word])[0].ids) for number, word in enumerate(rjieba.cut(WRITTEN))])
    word = owner[: count * length].astype(np.int64)
    inner = np.flatnonzero(~np.isin(packed.tokens, [chinese.cls_id, chinese.sep_id]))
    whole, split, shares = 0, 0, []
    for epoch in range(5):
        _, masked, _ = masks(Masker(chinese, MaskRule(unit=unit)), packed, samples, epoch=epoch)
        hidden = np.isin(inner, masked)
        cut = np.isin(word, np.intersect1d(word[length - 1 :: length][:-1], word[length::length]))
        han = np.array([chinese.token(int(number)) >= "一" for number in packed.tokens[inner]])  # type: ignore[operator]
        ours = han & ~cut
        sizes, hits = np.bincount(word[ours]), np.bincount(word[ours], weights=hidden[ours])
        whole += ((hits == sizes) & (sizes > 1)).sum()
        split += ((hits > 0) & (hits < sizes)).sum()
        shares.append(hits.astype(bool).sum() / (sizes > 0).sum() if words == "segmenter" else hidden[ours].mean())
    assert abs(np.mean(shares) - 0.15) < 0.01
    assert whole > 100
    assert split == 0 if words == "segmenter" else split > 100
