"""Packing against a slow reference, and task texts that do not fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tofro.batches.labelled import LabelledBuilder, task_batches
from tofro.batches.packing import NO_TARGET, Packed, fill, pack, ragged, share_counts, to_batch
from tofro.batches.pretraining import evaluation_sentences, sentence_batches
from tofro.batches.types import Batch
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Row:
    text_a: str
    text_b: str | None
    label: str | float | tuple[str, ...]
    words: tuple[str, ...] = ()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 50), st.integers(0, 9)] * 2), min_size=1, max_size=6), parts=st.sampled_from([1, 2])
)
def test_packing_agrees_with_a_loop(tokenizer: Tokenizer, rows: list[tuple[int, int, int, int]], parts: int) -> None:
    ids, starts = np.arange(100, 160, dtype=np.uint16), np.arange(60) % 3 == 0
    table = np.array(rows)
    packed = pack(ids, starts, table[:, [0, 2]][:, :parts], table[:, [1, 3]][:, :parts], tokenizer)
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[int] = []
    words: list[bool] = []
    offsets = [0]
    for row in rows:
        one, flags, number = [tokenizer.cls_id], [True], [0]
        for part in range(parts):
            start, length = row[2 * part], row[2 * part + 1]
            one += [*ids[start : start + length].tolist(), tokenizer.sep_id]
            flags += [*(place == start or bool(starts[place]) for place in range(start, start + length)), True]
            number += [part] * (length + 1)
        tokens, words, segments = tokens + one, words + flags, segments + number
        positions += list(range(len(one)))
        offsets.append(len(tokens))
    assert packed.tokens.tolist() == tokens
    assert packed.positions.tolist() == positions
    assert packed.segments.tolist() == segments
    assert packed.starts.tolist() == words
    assert packed.offsets.tolist() == offsets
    batch = to_batch(packed, np.arange(len(rows)))
    assert batch.size == len(rows)
    assert batch.max_length == max(np.diff(offsets))
    assert batch.counts == {"samples": len(rows), "tokens": len(tokens), "masked": 0, "pairs": 0, "tagged": 0}


def test_ragged_ranges() -> None:
    assert ragged(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ragged(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []


def test_counts_are_those_of_the_whole_share(tokenizer: Tokenizer) -> None:
    """A loss is a sum over a micro-batch divided by the count of all of them."""
    rows = [Row("river " * size, None, 0.5) for size in (1, 4, 9)]
    batches = task_batches(rows, tokenizer, 32, 1, ())
    shared = share_counts(batches)
    assert len({batch.counts["tokens"] for batch in batches}) == 3
    assert all(
        batch.counts == {"samples": 3, "tokens": sum(b.tokens.numel() for b in batches), "masked": 0, "pairs": 0, "tagged": 0}
        for batch in shared
    )


def masked_batch(lengths: list[int], masked: int) -> Batch:
    """A batch of sequences of these lengths, its first tokens masked."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions, total = ragged(np.zeros(len(lengths), dtype=np.int64), np.array(lengths)), int(offsets[-1])
    tokens = np.arange(total) + 7
    packed = Packed(tokens, positions, np.ones_like(tokens), np.repeat(np.arange(len(lengths)), lengths), tokens > 0, offsets)
    return to_batch(packed, np.arange(len(lengths)), np.arange(masked), np.arange(masked), np.zeros(len(lengths), dtype=np.int64))


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 600), min_size=1, max_size=70), share=st.floats(0, 1))
def test_filling_adds_short_sequences_and_leaves_the_text_alone(lengths: list[int], share: float) -> None:
    batch = masked_batch(lengths, int(share * sum(lengths)))
    filled = fill(batch)
    for name in ("tokens", "positions", "segments", "cu_seqlens", "masked", "mask_targets"):
        before, after = getattr(batch, name), getattr(filled, name)
        assert after[: len(before)].equal(before)
        assert after.dtype == before.dtype
    assert (filled.size, filled.length) == (batch.size, batch.length) == (len(lengths), sum(lengths))
    assert (filled.counts, filled.pair_labels, filled.samples) == (batch.counts, batch.pair_labels, batch.samples)
    added = filled.cu_seqlens.diff()[batch.size :]
    assert 1 <= added.min() <= added.max() <= filled.max_length
    assert filled.max_length in (16, 32, 64, 128, 256, 512, 1024)
    assert filled.max_length >= batch.max_length
    assert added.sum() == filled.filling <= filled.length / 8 + filled.fillers
    assert filled.cu_seqlens[-1] == filled.tokens.numel() == filled.positions.numel() == filled.segments.numel()
    assert (filled.masked[batch.masked.numel() :] == filled.length).all()
    assert (filled.mask_targets[batch.masked.numel() :] == NO_TARGET).all()


def test_filled_batches_have_few_shapes() -> None:
    """Fifty steps of a pretraining: lengths vary as they like, shapes do not."""
    draw = np.random.default_rng(0)
    batches = [masked_batch(draw.integers(90, 129, 64).tolist(), int(draw.normal(1000, 40))) for _ in range(50)]
    assert len({batch.tokens.numel() for batch in batches}) > 40
    filled = [fill(batch) for batch in batches]
    assert len({(batch.tokens.numel(), batch.cu_seqlens.numel(), batch.max_length) for batch in filled}) <= 2
    assert len({batch.masked.numel() for batch in filled}) <= 3


def test_texts_are_cut_longest_first_and_counted(tokenizer: Tokenizer) -> None:
    rows = [
        Row("river " * 40, "stone", "x"),
        Row("river", "stone " * 40, "y"),
        Row("river " * 40, "stone " * 40, "x"),
        Row("river", "stone", "y"),
    ]
    builder = LabelledBuilder(rows, tokenizer, 16, ("x", "y"))
    batch = builder.build(np.arange(4))
    assert builder.cut == 3
    assert batch.max_length == 16
    rows_of_segments = np.split(batch.segments.numpy(), batch.cu_seqlens[1:-1].numpy())
    second = [int(row.sum()) - 1 for row in rows_of_segments]
    whole = [len(text.ids) for text in tokenizer.encode(["stone", "river"])]
    assert second[0] == whole[0]
    assert second[1] == 13 - whole[1]
    assert second[2] in (6, 7)
    assert second[3] == whole[0]


@pytest.mark.parametrize("pair", [False, True])
def test_batches_hold_every_example_once_with_its_label(tokenizer: Tokenizer, pair: bool) -> None:
    rows = [Row("river " * (place % 7 + 1), "stone window" if pair else None, "ab"[place % 2]) for place in range(23)]
    batches = task_batches(rows, tokenizer, 64, 5, ("a", "b"))
    seen = {}
    for batch in batches:
        assert batch.samples is not None
        assert batch.labels is not None
        assert str(batch.labels.dtype) == "torch.int64"
        for place, (low, high) in enumerate(zip(batch.cu_seqlens.tolist(), batch.cu_seqlens.tolist()[1:], strict=False)):
            seen[int(batch.samples[place])] = (batch.tokens[low:high].tolist(), int(batch.labels[place]))
    assert sorted(seen) == list(range(23))
    for place, row in enumerate(rows):
        texts = [text for text in (row.text_a, row.text_b) if text is not None]
        expected = [tokenizer.cls_id]
        for text in tokenizer.encode(texts):
            expected += [*text.ids.tolist(), tokenizer.sep_id]
        assert seen[place] == (expected, place % 2)


def test_scores_are_floats_and_unknown_labels_are_named(tokenizer: Tokenizer) -> None:
    scores = task_batches([Row("river", None, 1.5), Row("stone", None, 2)], tokenizer, 16, 2, ())[0].labels
    assert scores is not None
    assert sorted(scores.tolist()) == [1.5, 2.0]
    assert str(scores.dtype) == "torch.float32"
    assert task_batches([Row("river", None, "a")], tokenizer, 16, 2)[0].labels is None
    with pytest.raises(ValueError, match="label 'c' does not occur in the training split"):
        task_batches([Row("river", None, "c")], tokenizer, 16, 2, ("a", "b"))


def test_chosen_sentences_become_sequences_of_their_own(store: TokenStore, tokenizer: Tokenizer) -> None:
    starts, lengths = evaluation_sentences(store, 37, 9)
    assert len(starts) == len(np.unique(starts)) == 37
    assert lengths.max() == 9
    seen = []
    for batch in sentence_batches(store, starts, lengths, tokenizer, 8):
        assert batch.size <= 8
        for row, part in zip(batch.samples.tolist(), batch.tokens.split(np.diff(batch.cu_seqlens.numpy()).tolist()), strict=True):
            seen.append(row)
            text = store.ids[starts[row] : starts[row] + lengths[row]].tolist()
            assert part.tolist() == [tokenizer.cls_id, *text, tokenizer.sep_id]
    assert sorted(seen) == list(range(37))
