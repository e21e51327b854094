"""A cloze as a classifier that trains: the head for masked words answers the task, and no parameter is new.

In: settings of a prompt, a tokenizer, the labels. Out: batches of filled templates, and logits (B, C) that are the scores of the
labels' words in the masks, as :class:`~tofro.modules.prompting.ClozeScorer` has them without calibration, but with a gradient.
This is the prompt-based fine-tuning of Gao et al. (2021, LM-BFF) and Schick and Schütze (2021, PET). Leaves out several templates
at once, and what trains (encoders/tuning.py).

B sequences, C labels, W label words, k masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tofro.batches.cloze import ClozeBuilder
from tofro.batches.labelled import Labelled
from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.modules.calibration import label_scores
from tofro.tokens.cloze import MASK, ClozeTemplate, LabelWord, choose_template, place_of, read_words
from tofro.tokens.settings import PromptSettings
from tofro.tokens.tokenizer import Tokenizer


class ClozeOutput:
    """s(y | x) = log of the mean, over the words of label y, of exp(mean log P(token | template around x) over the k masks).

    Cross-entropy over these scores is the loss. A sequence is one example, so all label words have the same number of tokens.
    """

    def __init__(
        self, settings: PromptSettings, tokenizer: Tokenizer, labels: Sequence[str], pair: bool, max_length: int
    ) -> None:
        """Check the prompt against the task; ValueError names the ``prompt`` key at fault."""
        text = choose_template(settings.templates, settings.template)
        words = read_words(settings.words, labels, tokenizer, place_of(text, MASK))
        fields = ("text_a", "text_b") if pair else ("text_a",)
        self.template = ClozeTemplate(text, fields, tokenizer, max_length, f"prompt.templates[{settings.template}]")
        self.template.check(words, labels)
        _check_lengths(words, labels)
        self.tokenizer, self.labels = tokenizer, tuple(labels)
        self.words = torch.from_numpy(np.stack([word.ids for word in words]).astype(np.int64))  # (W, k)
        self.owner = torch.tensor([word.label for word in words])  # (W,)

    def builder(self, examples: Sequence[Labelled]) -> ClozeBuilder:
        """Return what builds batches of ``examples`` that :meth:`logits` can answer."""
        return ClozeBuilder(examples, self.tokenizer, self.template, self.words.shape[1], self.labels)

    def heads(self, model: Model) -> tuple[str, ...]:
        """Return the head for masked words."""
        return ("mlm",)

    def logits(self, model: Model, states: Tensor, batch: Batch) -> Tensor:
        """Return the score s(y | x) of every label (B, C)."""
        assert batch.masked is not None, "a cloze needs a batch that says where its masks are"
        self.words, self.owner = self.words.to(states.device), self.owner.to(states.device)  # once
        return label_scores(word_scores(model.mlm_logits(states, batch.masked), self.words), self.owner)


def word_scores(logits: Tensor, words: Tensor) -> Tensor:
    """Return the mean log-probability (B, W) of the words (W, k) in k masks each, whose logits are (B·k, V)."""
    k = words.shape[1]
    wide = logits if logits.element_size() >= 4 else logits.float()
    chosen = wide.view(-1, k, wide.shape[-1])[:, torch.arange(k, device=words.device), words]  # (B, W, k)
    return (chosen - wide.logsumexp(-1).view(-1, 1, k)).mean(-1)


def _check_lengths(words: Sequence[LabelWord], labels: Sequence[str]) -> None:
    first = words[0]
    for word in words:
        if len(word.ids) != len(first.ids):
            raise ValueError(
                f"prompt.words.{labels[word.label]}: {word.word!r} has {len(word.ids)} token(s) and {first.word!r} has "
                f"{len(first.ids)}; a cloze that trains needs words of one length, since a sequence is an example; "
                "choose others, or ask without training, method=prompt"
            )
