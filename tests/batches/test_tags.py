"""Tagged words in packed batches, against a slow reference: a tag belongs to its word's first token, and no word is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batches.test_packing import Row
from tofro.batches.datamodules import Loading, TaskData
from tofro.batches.labelled import LabelledBuilder, task_batches
from tofro.batches.packing import fill
from tofro.batches.types import NO_TARGET
from tofro.tokens.tokenizer import Tokenizer

LABELS = ("B-x", "I-x", "O")
WORD = st.one_of(
    st.sampled_from(["river", "rivers", "don't", "New York", "\u200b", "", "[SEP]", "字字", "́a", "http://a.b/c"]),
    st.text(max_size=6),
)


def row(words: list[str], tags: list[str] | None = None) -> Row:
    chosen = tags or [LABELS[number % 3] for number in range(len(words))]
    return Row(" ".join(words), None, tuple(chosen), tuple(words))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(WORD, min_size=1, max_size=8), min_size=1, max_size=5), room=st.integers(1, 12), data=st.data())
def test_a_tag_stands_at_its_words_first_token(
    tokenizer: Tokenizer, rows: list[list[str]], room: int, data: st.DataObject
) -> None:
    builder = LabelledBuilder([row(words) for words in rows], tokenizer, room + 2, LABELS)
    samples = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6)))
    batch = builder.build(samples)
    tokens: list[int] = []
    tagged: list[int] = []
    tags: list[int] = []
    seen: list[bool] = []
    for sample in samples:
        start, ids = len(tokens), [tokenizer.cls_id]
        for number, word in enumerate(rows[sample]):
            pieces = tokenizer.encode([word])[0].ids.tolist()
            seen.append(bool(pieces) and len(ids) <= room)
            tagged.append(start + (len(ids) if seen[-1] else 0))
            tags.append(number % 3)
            ids += pieces
        tokens += [*ids[: room + 1], tokenizer.sep_id]
    assert batch.tokens.tolist() == tokens
    assert batch.tagged is not None
    assert batch.tags is not None
    assert batch.tagged.tolist() == tagged
    assert batch.tags.tolist() == tags
    assert batch.seen.tolist() == seen
    assert batch.targets.tolist() == [tag if there else NO_TARGET for tag, there in zip(tags, seen, strict=True)]
    assert batch.counts["tagged"] == sum(seen)
    assert batch.labels is None
    assert fill(batch).targets.tolist() == batch.targets.tolist()


@settings(max_examples=150, deadline=None)
@given(words=st.lists(WORD, min_size=1, max_size=8))
def test_words_have_the_tokens_of_the_text_that_they_make(tokenizer: Tokenizer, words: list[str]) -> None:
    tagged = LabelledBuilder([row(words)], tokenizer, 200)
    plain = LabelledBuilder([Row(" ".join(words), None, "O")], tokenizer, 200)
    assert tagged.ids.tolist() == plain.ids.tolist()


def test_lost_words_are_counted(tokenizer: Tokenizer) -> None:
    rows = [row(["river"] * 3), row(["river", "\u200b", "stone"]), row(["river"] * 9)]
    builder = LabelledBuilder(rows, tokenizer, 8, LABELS)
    assert builder.lost == (1 + 3, 2)
    assert builder.cut == 1
    assert LabelledBuilder([Row("river", None, "a")], tokenizer, 8, ("a",)).lost == (0, 0)


def test_an_unknown_tag_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"tag 'B-z' does not occur in the training split \(known: B-x, I-x, O\)"):
        LabelledBuilder([row(["river"], ["B-z"])], tokenizer, 8, LABELS)


def test_batches_cover_every_word_once_and_ranks_and_cuts_count_alike(tokenizer: Tokenizer) -> None:
    rows = [row(["river", "stone"] * (place % 5 + 1)) for place in range(40)]
    batches = task_batches(rows, tokenizer, 9, 7, LABELS)
    assert sum(batch.tags.numel() for batch in batches) == sum(len(each.words) for each in rows)
    splits = {"train": rows, "validation": rows}

    def counted(**loading: int) -> int:
        module = TaskData(splits, LABELS, tokenizer, 9, Loading(16, **loading))  # type: ignore[arg-type]
        return next(iter(module.train_dataloader())).counts["tagged"]

    whole = counted()
    assert counted(accumulate=4) == whole
    assert sum(counted(rank=rank, world_size=2, accumulate=2) for rank in range(2)) == whole
    moved = batches[0].map(torch.clone)
    assert torch.equal(moved.targets, batches[0].targets)
