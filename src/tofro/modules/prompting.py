"""Prompting: the pretrained model answers a task as a question put in its own terms, and no parameter changes.

In: examples, templates, label words. Out: log-probabilities (N, C) over the task's labels. Two scorers: :class:`ClozeScorer`
asks the masked-language head for the words in a template's blanks, :class:`PairScorer` asks the sentence-pair head whether a
statement about the text goes with it. All templates are asked in the same packed batches, and what is the same sequence once.
Leaves out what becomes of the scores (calibration.py) and the choice of a template or of words, which is a search, and never one
on test data.

K templates, N examples, C labels, W label words, k masks, S distinct sequences.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from tofro.batches.packing import ragged
from tofro.batches.sequences import distinct, packed_by_length
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.modules.calibration import CONTENT_FREE, Answers, answers, together
from tofro.text.task import Example
from tofro.tokens.cloze import MASK, Cloze, ClozeTemplate, LabelWord, choose_templates, place_of, read_words
from tofro.tokens.opening import WORDPIECE
from tofro.tokens.settings import PromptSettings
from tofro.tokens.statements import WORD, StatementTemplate
from tofro.tokens.tokenizer import Tokenizer

BATCH = 64  # sequences of a forward pass; has no bearing on the scores
Texts = dict[str, np.ndarray]  # field -> token ids, of one example
Template = TypeVar("Template", ClozeTemplate, StatementTemplate)


@dataclass(frozen=True)
class Wording(Generic[Template]):
    """A template, its number, and the label words (W) as they are written in it."""

    number: int
    template: Template
    words: Sequence[LabelWord]


class Scorer(ABC):
    """What the two forms share: settings checked at construction, calibration, and scores in the order of the examples."""

    needs: str  # the head of the model
    blank: str  # what the label words fill in a template
    usual: tuple[str, ...] = ()  # the templates where the settings have none
    wordings: tuple[Wording[Any], ...]

    def __init__(
        self, settings: PromptSettings, model: Model, tokenizer: Tokenizer, labels: Sequence[str], pair: bool, max_length: int
    ) -> None:
        """Check ``settings`` against the task's ``labels`` (sorted) and whether it has ``pair`` texts.

        ``max_length`` is in tokens, special ones included, and capped by the model's positions. Raises ValueError naming the
        ``prompt`` key at fault.
        """
        if self.needs not in model.heads:
            raise ValueError(
                f"prompt: the model has no {self.needs} head, which this kind of prompt asks; "
                "start from a pretrained folder that has one, with init_from=..."
            )
        self.settings, self.model, self.tokenizer = settings, model, tokenizer
        self.labels, self.pair = tuple(labels), pair
        self.max_length = min(max_length, model.settings.max_positions)
        chosen = choose_templates(settings.templates or self.usual, settings.template)
        self.wordings = tuple(self._read(number, text) for number, text in chosen.items())

    @property
    def variant(self) -> str:
        """Which of the templates are asked, in words."""
        return "ensemble" if len(self.wordings) > 1 else f"template {self.wordings[0].number}"

    def score(self, examples: Sequence[Example]) -> Tensor:
        """Return log P(label | text) (N, C), normalised over labels, fp32 on the CPU; of all templates together."""
        return together(self.answer(examples).calibrated)

    def answer(self, examples: Sequence[Example]) -> Answers:
        """Return the same of each template, calibrated and not, (K, N, C) each, from one pass over the examples."""
        words = self._words_of(examples)
        owner = torch.tensor([word.label for word in self.wordings[0].words])
        return answers(self.settings.calibration, words, self.content_free, owner)

    @cached_property
    def content_free(self) -> Tensor | None:
        """Word scores (K, 1, W) of the text without content, None where the calibration asks for none."""
        text = CONTENT_FREE.get(self.settings.calibration)
        return None if text is None else self._words_of([Example(text, text if self.pair else None, "")])

    def _read(self, number: int, text: str) -> Wording[Any]:
        words = read_words(self.settings.words, self.labels, self.tokenizer, place_of(text, self.blank))
        return Wording(number, self._template(text, words, f"prompt.templates[{number}]"), words)

    def _words_of(self, examples: Sequence[Example]) -> Tensor:
        with inference(self.model):
            return self.word_scores(self._tokenise(examples))

    def _tokenise(self, examples: Sequence[Example]) -> list[list[Texts]]:
        """Return the token ids of the examples' texts for each wording: a space before a text may be part of its first token."""
        columns = {"text_a": [example.text_a for example in examples]}
        if self.pair:
            columns["text_b"] = [example.text_b or "" for example in examples]
        known: dict[tuple[str, bool | None], list[np.ndarray]] = {}

        def encode(field: str, place: bool | None) -> list[np.ndarray]:
            place = None if self.tokenizer.writes == WORDPIECE else place
            if (field, place) not in known:
                known[field, place] = [text.ids for text in self.tokenizer.encode_inside(columns[field], place)]
            return known[field, place]

        result = []
        for wording in self.wordings:
            rows = zip(*(encode(field, wording.template.place(field)) for field in columns), strict=True)
            result.append([dict(zip(columns, row, strict=True)) for row in rows])
        return result

    @abstractmethod
    def _template(self, text: str, words: Sequence[LabelWord], where: str) -> ClozeTemplate | StatementTemplate:
        """Return a parsed template that has been checked against its words; ``where`` is its config key."""

    @abstractmethod
    def word_scores(self, texts: Sequence[Sequence[Texts]]) -> Tensor:
        """Return the score of every label word (K, N, W), fp32 on the CPU, from the token ids of the texts, for each wording."""


class ClozeScorer(Scorer):
    """Score of a word of k tokens: the mean over its k masks of log P(token | text around all masks) (Schick and Schütze 2021).

    Words of equal k share one sequence per example and template, so the cost is N sequences for each template and k that occurs,
    less those that are the same, however many words there are.
    """

    needs, blank = "mlm", MASK
    wordings: tuple[Wording[ClozeTemplate], ...]

    def _template(self, text: str, words: Sequence[LabelWord], where: str) -> ClozeTemplate:
        fields = ("text_a", "text_b") if self.pair else ("text_a",)
        template = ClozeTemplate(text, fields, self.tokenizer, self.max_length, where)
        template.check(words, self.labels)
        return template

    def word_scores(self, texts: Sequence[Sequence[Texts]]) -> Tensor:
        """Return the mean log-probability of every label word (K, N, W)."""
        groups = [
            (row, wording, k)
            for row, wording in enumerate(self.wordings)
            for k in sorted({len(word.ids) for word in wording.words})
        ]
        clozes = [cloze for row, wording, k in groups for cloze in wording.template.fill(texts[row], k)]
        firsts, places = distinct((cloze.tokens.tobytes(), cloze.masks.tobytes()) for cloze in clozes)
        asked = np.unique(np.concatenate([word.ids for wording in self.wordings for word in wording.words]))  # (U,)
        table, starts = self._log_probabilities([clozes[first] for first in firsts], asked)
        scores = torch.empty(len(self.wordings), len(texts[0]), len(self.wordings[0].words))
        for (row, wording, k), sequences in zip(groups, places.reshape(len(groups), -1), strict=True):
            words = [index for index, word in enumerate(wording.words) if len(word.ids) == k]
            tokens = np.searchsorted(asked, np.stack([wording.words[index].ids for index in words]))  # (W_k, k)
            masks = starts[sequences][:, None, None] + np.arange(k)  # (N, 1, k)
            scores[row][:, words] = table[torch.from_numpy(masks), torch.from_numpy(tokens)].mean(-1)  # (N, W_k)
        return scores

    def _log_probabilities(self, clozes: Sequence[Cloze], asked: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return log P of the tokens ``asked`` (U,) in every mask (M, U), and where in M each of the ``clozes`` begins (S,)."""
        counts = np.array([len(cloze.masks) for cloze in clozes])
        starts = np.cumsum(counts) - counts
        table, device = torch.empty(int(counts.sum()), len(asked)), device_of(self.model)
        columns = torch.from_numpy(asked.astype(np.int64)).to(device)
        for chosen, batch in packed_by_length([(cloze.tokens,) for cloze in clozes], self.tokenizer, BATCH):
            begins = batch.cu_seqlens[:-1].numpy() + 1  # [CLS] comes first
            masked = np.repeat(begins, counts[chosen]) + np.concatenate([clozes[index].masks for index in chosen])
            batch = batch.to(device)
            logits = self.model.mlm_logits(self.model.encoder(batch), torch.from_numpy(masked).to(device)).float()
            found = logits[:, columns] - logits.logsumexp(-1, keepdim=True)  # (B·k, U)
            table[torch.from_numpy(ragged(starts[chosen], counts[chosen]))] = found.cpu()
        return table, starts


class PairScorer(Scorer):
    """Score of a word: how much more the pair head likes its statement after the text than chance, or than before it.

    With f(A, B) = log-odds that B goes with A in this order, the score is f(text, statement) - f(statement, text) for a head
    trained with ``prompt.pair=swap``, since such a head judges order alone, and f(text, statement) for ``random`` (NSP-BERT,
    Sun et al. 2022).
    """

    needs, blank, usual = "pair", WORD, (WORD,)
    wordings: tuple[Wording[StatementTemplate], ...]

    def _template(self, text: str, words: Sequence[LabelWord], where: str) -> StatementTemplate:
        template = StatementTemplate(text, self.pair, self.tokenizer, self.max_length, where)
        template.check(words)
        return template

    def word_scores(self, texts: Sequence[Sequence[Texts]]) -> Tensor:
        """Return the (contrasted) log-odds of every label word's statement (K, N, W)."""
        judged = [pair for row, wording in enumerate(self.wordings) for pair in wording.template.fill(texts[row], wording.words)]
        pairs = [(pair.text, pair.statement) for pair in judged]
        if self.settings.pair == "swap":
            pairs += [(pair.statement, pair.text) for pair in judged]
        odds = self._log_odds(pairs).view(-1, len(self.wordings), len(texts[0]), len(self.wordings[0].words))
        return odds[0] - odds[1] if self.settings.pair == "swap" else odds[0]

    def _log_odds(self, pairs: Sequence[tuple[np.ndarray, ...]]) -> Tensor:
        firsts, places = distinct(tuple(part.tobytes() for part in pair) for pair in pairs)
        odds, device = torch.empty(len(firsts)), device_of(self.model)
        for chosen, batch in packed_by_length([pairs[first] for first in firsts], self.tokenizer, BATCH):
            batch = batch.to(device)
            logits = self.model.pair_logits(self.model.encoder(batch), batch).float()  # (B, 2): goes with A, does not
            odds[torch.from_numpy(chosen)] = (logits[:, 0] - logits[:, 1]).cpu()
        return odds[torch.from_numpy(places)]


class Prompting(pl.LightningModule):
    """A scorer under Lightning's ``Trainer.predict``, for what that gives: devices, precision and a share of the data per rank.

    A batch is a list of examples, a prediction their log-probabilities (N, C); ``calibration=batch`` means this batch here. There
    is nothing to train, so it has none of the base of the trained methods.
    """

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.model = scorer.model  # registered, so that the Trainer moves it

    def transfer_batch_to_device(self, batch: list[Example], device: torch.device, dataloader_idx: int) -> list[Example]:
        """Leave the texts where they are: the scorer moves the token ids it makes of them."""
        return batch

    def predict_step(self, batch: list[Example], batch_idx: int = 0) -> Tensor:
        """Return log P(label | text) (N, C)."""
        return self.scorer.score(batch)
