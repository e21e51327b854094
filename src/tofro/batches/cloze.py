"""Cloze batches: labelled examples put into a template, whose masks are where the label's word is to be found.

In: examples, a parsed template, how many masks a word takes. Out: :class:`~tofro.batches.types.Batch` with labels and
``masked``: the k masks of each sequence, sequence by sequence. Texts are cut to fit, the template and its masks never.
Leaves out the label words, which are no part of a batch (modules/cloze_output.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tofro.batches.labelled import Labelled, LabelledBuilder, number_labels, seen
from tofro.batches.packing import pack, to_batch
from tofro.batches.types import Batch
from tofro.tokens.cloze import Cloze, ClozeTemplate
from tofro.tokens.tokenizer import Tokenizer


class ClozeBuilder(LabelledBuilder):
    """Builds the packed batch of any of ``examples`` as ``template`` words them, with ``k`` masks where it has one [MASK]."""

    def __init__(
        self, examples: Sequence[Labelled], tokenizer: Tokenizer, template: ClozeTemplate, k: int, labels: tuple[str, ...]
    ) -> None:
        """Fill the template with each example; nothing of what the base class tokenises is of use here."""
        self.tokenizer = tokenizer
        clozes = fill(examples, tokenizer, template, k)
        self.ids = np.concatenate([np.zeros(0, np.int64), *(cloze.tokens for cloze in clozes)])
        self.word_starts = np.ones(len(self.ids), bool)  # nothing is masked by words here
        lengths = np.array([len(cloze.tokens) for cloze in clozes], np.int64)
        self.lengths = lengths[:, None]  # (n, 1)
        self.starts = (np.cumsum(lengths) - lengths)[:, None]
        self.masks = np.array([cloze.masks for cloze in clozes], np.int64).reshape(len(clozes), -1)  # (n, k)
        self.labels = number_labels([example.label for example in examples], labels)
        self.tags = None

    def build(self, samples: np.ndarray) -> Batch:
        """Return the batch of ``samples`` (B,) int64."""
        packed = pack(self.ids, self.word_starts, self.starts[samples], self.lengths[samples], self.tokenizer)
        assert self.labels is not None
        masked = packed.offsets[:-1, None] + 1 + self.masks[samples]  # [CLS] comes first
        return to_batch(packed, samples, masked=masked.ravel(), labels=self.labels[samples])


def fill(examples: Sequence[Labelled], tokenizer: Tokenizer, template: ClozeTemplate, k: int) -> list[Cloze]:
    """Return the token sequence of each example under a template."""
    columns: dict[str, list[np.ndarray]] = {}
    for field in dict.fromkeys(template.fields):
        texts = [seen(getattr(example, field) or "", template.max_length, tokenizer) for example in examples]
        columns[field] = [text.ids for text in tokenizer.encode_inside(texts, template.place(field))]
    return template.fill([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], k)
