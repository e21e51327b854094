"""Pairs: never empty, never with themselves, balanced, and silent about their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.batches.conftest import Corpus, write
from tofro.batches.leaks import drawn_pairs, leak_features, untouched_pairs
from tofro.batches.packing import ragged
from tofro.batches.pairs import Spans, index_samples, share_room
from tofro.batches.settings import ObjectiveSettings
from tofro.tokens.store import TokenStore, open_store
from tofro.tokens.tokenizer import Tokenizer

KINDS = [(pair, unit, length) for pair in ("swap", "random") for unit in ("segment", "sentence") for length in (16, 64, 128)]


def draw(store: TokenStore, epoch: int = 0, seed: int = 5, **settings: object) -> Spans:
    samples = index_samples(store, ObjectiveSettings(**settings))  # type: ignore[arg-type]
    return samples.draw(seed, epoch, np.arange(len(samples)))


def ordered(spans: Spans) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Undo the swap: starts and ends of A and B as the text has them."""
    assert spans.labels is not None
    swapped = spans.labels == 1
    first, second = (spans.first_start, spans.first_length), (spans.second_start, spans.second_length)
    a_start, a_length = (np.where(swapped, two, one) for one, two in zip(first, second, strict=True))
    b_start, b_length = (np.where(swapped, one, two) for one, two in zip(first, second, strict=True))
    return a_start, a_start + a_length, b_start, b_start + b_length


def documents(store: TokenStore, tokens: np.ndarray) -> np.ndarray:
    """Number of the document that each token lies in."""
    return np.searchsorted(store.sentence_offsets[store.document_offsets], tokens, side="right")


@pytest.mark.parametrize(("pair", "unit", "length"), KINDS)
def test_segments_are_there_apart_and_fit(store: TokenStore, pair: str, unit: str, length: int) -> None:
    for epoch in range(3):
        spans = draw(store, epoch, pair=pair, unit=unit, length=length)
        assert (spans.first_length > 0).all()
        assert (spans.second_length > 0).all()
        assert (spans.first_length + spans.second_length <= length - 3).all()
        apart = (spans.first_start + spans.first_length <= spans.second_start) | (
            spans.second_start + spans.second_length <= spans.first_start
        )
        same = documents(store, spans.first_start) == documents(store, spans.second_start)
        assert apart.all()
        for start, size in ((spans.first_start, spans.first_length), (spans.second_start, spans.second_length)):
            assert np.array_equal(documents(store, start), documents(store, start + size - 1))
        assert np.array_equal(same, spans.labels == 0) if pair == "random" else same.all()


@pytest.mark.parametrize("unit", ["segment", "sentence"])
def test_swapped_pairs_are_neighbours_of_whole_sentences(store: TokenStore, unit: str) -> None:
    """Where nothing is too long, A ends where B begins, at sentence boundaries on all sides."""
    a_start, a_end, b_start, b_end = ordered(draw(store, pair="swap", unit=unit, length=512))
    assert np.array_equal(a_end, b_start)
    for edge in (a_start, a_end, b_end):
        assert np.isin(edge, store.sentence_offsets).all()
    between = np.searchsorted(store.sentence_offsets, b_end) - np.searchsorted(store.sentence_offsets, a_start)
    assert (between == 2).all() if unit == "sentence" else between.max() > 2


def test_no_further_sentence_would_fit(store: TokenStore) -> None:
    a_start, _, _, b_end = ordered(draw(store, pair="swap", length=128))
    offsets, bounds = store.sentence_offsets, store.sentence_offsets[store.document_offsets]
    room = 125 - (b_end - a_start)
    before, after = np.searchsorted(offsets, a_start), np.searchsorted(offsets, b_end)
    grows_left = ~np.isin(a_start, bounds) & (offsets[before] - offsets[np.maximum(before - 1, 0)] <= room)
    grows_right = ~np.isin(b_end, bounds) & (offsets[np.minimum(after + 1, len(offsets) - 1)] - offsets[after] <= room)
    assert not grows_left.any()
    assert not grows_right.any()


@pytest.mark.parametrize(("pair", "unit", "length"), KINDS)
def test_labels_balance_in_every_epoch_and_change_between_them(store: TokenStore, pair: str, unit: str, length: int) -> None:
    first, second = (draw(store, epoch, pair=pair, unit=unit, length=length).labels for epoch in (0, 1))
    assert first is not None
    assert second is not None
    assert abs(first.sum() - len(first) / 2) <= 1
    assert 0.4 < (first == second).mean() < 0.6


def test_a_sample_is_drawn_alike_in_any_company(store: TokenStore) -> None:
    samples = index_samples(store, ObjectiveSettings(pair="random", length=64))
    whole, part = samples.draw(1, 2, np.arange(100)), samples.draw(1, 2, np.array([70, 3]))
    for name in ("first_start", "first_length", "second_start", "second_length", "labels"):
        assert getattr(whole, name)[[70, 3]].tolist() == getattr(part, name).tolist()


def test_every_token_of_a_paired_document_is_seen_in_some_epoch(store: TokenStore) -> None:
    seen = np.zeros(store.tokens, dtype=bool)
    for epoch in range(60):
        spans = draw(store, epoch, pair="swap", length=32)
        for start, size in ((spans.first_start, spans.first_length), (spans.second_start, spans.second_length)):
            seen[ragged(start, size)] = True
    sizes = np.diff(store.document_offsets)
    paired = np.repeat(sizes > 1, np.diff(store.sentence_offsets[store.document_offsets]))
    assert seen[paired].mean() > 0.99
    assert not seen[~paired].any()


def test_what_makes_no_pair_is_counted(store: TokenStore) -> None:
    counts = index_samples(store, ObjectiveSettings(length=64)).counts
    assert counts["unpaired_documents"] == (np.diff(store.document_offsets) == 1).sum() > 0
    assert counts["long_sentences"] == (np.diff(store.sentence_offsets) > 61).sum() > 0


@pytest.mark.parametrize("unit", ["segment", "sentence"])
def test_without_pairs_every_token_is_seen_once(store: TokenStore, unit: str) -> None:
    spans = draw(store, pair="none", unit=unit, length=64)
    assert spans.labels is None
    assert np.array_equal(ragged(spans.first_start, spans.first_length), np.arange(store.tokens))
    assert spans.first_length.min() > 0
    assert spans.first_length.max() <= 62


def test_hopeless_corpora_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    single = open_store(tmp_path, Corpus([["river stone."], ["window."]], "single"), "train", tokenizer)
    with pytest.raises(ValueError, match=r"corpus single \(train\): no document has two sentences"):
        index_samples(single, ObjectiveSettings())
    one = open_store(tmp_path, Corpus([["river stone.", "window."]], "one"), "train", tokenizer)
    assert len(index_samples(one, ObjectiveSettings())) == 1
    with pytest.raises(ValueError, match=r"objective\.pair=random needs two documents"):
        index_samples(one, ObjectiveSettings(pair="random"))


def test_room_is_shared_longest_first() -> None:
    a, b = (axis.ravel() for axis in np.meshgrid(np.arange(30), np.arange(30)))
    for room in (9, 10, 21):
        for odd in (0, room % 2):
            kept_a, kept_b = share_room(a, b, room, odd)
            for one, two, left, right in zip(a, b, kept_a, kept_b, strict=True):
                slow = [one, two]
                while sum(slow) > room:
                    longer = (0 if odd == 0 else 1) if slow[0] == slow[1] else int(slow[1] > slow[0])
                    slow[longer] -= 1
                assert [left, right] == slow, (one, two, room, odd)


def accuracy(store: TokenStore, tokenizer: Tokenizer, spans: Spans) -> float:
    """Accuracy of a linear classifier on leak features, trained on one half of the text and tried on the other."""
    features, labels = leak_features(store, tokenizer, spans)
    train = spans.first_start < store.tokens // 2  # by one segment: asking both would sort `random` pairs by their label
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(features[train], labels[train])
    return float(model.score(features[~train], labels[~train]))


def public_builder(store: TokenStore, length: int) -> Spans:
    """Fill chunks from the left until they are full, split, cut the end, swap by a coin: what must not be done."""
    rows = []
    offsets, coin = store.sentence_offsets, np.random.default_rng(0)
    for low, high in zip(store.document_offsets[:-1], store.document_offsets[1:], strict=True):
        first = low
        while first < high:
            last = first + 1
            while last < high and offsets[last] - offsets[first] < length:
                last += 1
            if last - first > 1:
                middle = coin.integers(first + 1, last)
                a, b = offsets[first], offsets[middle]
                end = max(min(offsets[last], a + length), b + 1)
                rows.append((a, b - a, b, end - b) if len(rows) % 2 == 0 else (b, end - b, a, b - a))
            first = last
    table = np.array(rows)
    return Spans(table[:, 0], table[:, 1], table[:, 2], table[:, 3], np.arange(len(rows)) % 2)


def test_leak_rule_on_written_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Written sentences are drawn alike, so their order can't be told: chance is the yardstick. The classifier has teeth."""
    store = open_store(tmp_path, Corpus(write(1000, seed=9)), "train", tokenizer)
    for unit in ("segment", "sentence"):
        spans = drawn_pairs(store, ObjectiveSettings(length=64, unit=unit), 40_000)
        assert abs(accuracy(store, tokenizer, spans) - 0.5) < 0.01
        untouched = untouched_pairs(store, ObjectiveSettings(unit=unit), 40_000)
        assert abs(accuracy(store, tokenizer, untouched) - 0.5) < 0.01
    assert accuracy(store, tokenizer, public_builder(store, 61)) > 0.6
