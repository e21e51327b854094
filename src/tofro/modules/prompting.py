"""Prompting: the pretrained model answers a task as a question put in its own terms, and no parameter changes.

In: examples, a template, label words. Out: log-probabilities (N, C) over the task's labels. Two scorers: :class:`ClozeScorer`
asks the masked-language head for the words in a template's blanks, :class:`PairScorer` asks the sentence-pair head whether a
statement about the text goes with it. Leaves out the choice of a template or of words, which is a search, and never one on test
data.

N examples, C labels, W label words, k masks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from tofro.batches.packing import pack, to_batch
from tofro.batches.types import Batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.text.task import Example
from tofro.tokens.cloze import MASK, Cloze, ClozeTemplate, choose_template, place_of, read_words
from tofro.tokens.settings import PromptSettings
from tofro.tokens.statements import WORD, StatementTemplate
from tofro.tokens.tokenizer import Tokenizer

CONTENT_FREE = "N/A"  # Zhao et al. 2021
BATCH = 64  # sequences of a forward pass; has no bearing on the scores


class Scorer(ABC):
    """What the two forms share: settings checked at construction, calibration, and scores in the order of the examples.

    A label's score is the log of the mean of exp(score) over its words. With ``calibration=contextual`` (Zhao et al. 2021,
    their diagonal W) the label scores of the content-free text N/A, put into the same template, are subtracted: a label that
    the model prefers whatever the text says loses that advantage.
    """

    needs: str  # the head of the model
    blank: str  # what the label words fill in a template
    usual: tuple[str, ...] = ()  # the templates where the settings have none
    template: ClozeTemplate | StatementTemplate

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
        self.chosen = choose_template(settings.templates or self.usual, settings.template)
        self.words = read_words(settings.words, self.labels, tokenizer, place_of(self.chosen, self.blank))
        self.where = f"prompt.templates[{settings.template}]"

    def score(self, examples: Sequence[Example]) -> Tensor:
        """Return log P(label | text) (N, C), normalised over labels, fp32 on the CPU."""
        scores = self._label_scores(examples)
        if self.settings.calibration == "contextual":
            scores = scores - self.prior
        return scores.log_softmax(-1)

    @cached_property
    def prior(self) -> Tensor:
        """Label scores (C,) of the content-free text."""
        return self._label_scores([Example(CONTENT_FREE, CONTENT_FREE if self.pair else None, "")])[0]

    def _label_scores(self, examples: Sequence[Example]) -> Tensor:
        with inference(self.model):
            scores = self.word_scores(self._tokenise(examples))  # (N, W)
        owner = torch.tensor([word.label for word in self.words])
        columns = [scores[:, owner == label] for label in range(len(self.labels))]
        return torch.stack([column.logsumexp(-1) - np.log(column.shape[1]) for column in columns], dim=-1)

    def _tokenise(self, examples: Sequence[Example]) -> list[dict[str, np.ndarray]]:
        texts = {"text_a": [example.text_a for example in examples]}
        if self.pair:
            texts["text_b"] = [example.text_b or "" for example in examples]
        encode, place = self.tokenizer.encode_inside, self.template.place
        ids = {field: [text.ids for text in encode(column, place(field))] for field, column in texts.items()}
        return [dict(zip(ids, row, strict=True)) for row in zip(*ids.values(), strict=True)]

    @abstractmethod
    def word_scores(self, texts: Sequence[dict[str, np.ndarray]]) -> Tensor:
        """Return the score of every label word (N, W), fp32 on the CPU, from the token ids of every example's texts."""

    def _batches(self, sequences: Sequence[tuple[np.ndarray, ...]]) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yield (indices into ``sequences``, packed batch); sequences of like length share a batch, so little is padded."""
        lengths = np.array([[len(part) for part in sequence] for sequence in sequences])
        order = np.argsort(lengths.sum(1), kind="stable")
        device = device_of(self.model)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            flat = np.concatenate([part for index in chosen for part in sequences[index]])
            sizes = lengths[chosen]
            starts = (np.cumsum(sizes.ravel()) - sizes.ravel()).reshape(sizes.shape)
            packed = pack(flat, np.ones(len(flat), bool), starts, sizes, self.tokenizer)
            yield chosen, to_batch(packed, chosen).to(device)


class ClozeScorer(Scorer):
    """Score of a word of k tokens: the mean over its k masks of log P(token | text around all masks) (Schick and Schütze 2021).

    Words of equal k share one sequence per example, so the cost is N sequences for each k that occurs, however many words there
    are.
    """

    needs, blank = "mlm", MASK
    template: ClozeTemplate

    def __init__(
        self, settings: PromptSettings, model: Model, tokenizer: Tokenizer, labels: Sequence[str], pair: bool, max_length: int
    ) -> None:
        super().__init__(settings, model, tokenizer, labels, pair, max_length)
        fields = ("text_a", "text_b") if pair else ("text_a",)
        self.template = ClozeTemplate(self.chosen, fields, tokenizer, self.max_length, self.where)
        self.template.check(self.words, self.labels)

    def word_scores(self, texts: Sequence[dict[str, np.ndarray]]) -> Tensor:
        """Return the mean log-probability of every label word (N, W)."""
        scores = torch.empty(len(texts), len(self.words))
        for k in sorted({len(word.ids) for word in self.words}):
            columns = [index for index, word in enumerate(self.words) if len(word.ids) == k]
            ids = torch.from_numpy(np.stack([self.words[index].ids for index in columns]).astype(np.int64))  # (W_k, k)
            scores[:, columns] = self._score_blanks(self.template.fill(texts, k), ids)
        return scores

    def _score_blanks(self, clozes: Sequence[Cloze], ids: Tensor) -> Tensor:
        """Return the mean log-probability (N, W_k) of the words ``ids`` (W_k, k) in the masks of ``clozes`` (N)."""
        scores = torch.empty(len(clozes), len(ids))
        ids = ids.to(device_of(self.model))
        blanks = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)  # (W_k, k)
        for chosen, batch in self._batches([(cloze.tokens,) for cloze in clozes]):
            masks = torch.from_numpy(np.stack([clozes[index].masks for index in chosen])).to(ids.device)  # (B, k)
            masked = (batch.cu_seqlens[:-1, None] + 1 + masks).flatten()  # [CLS] comes first
            logits = self.model.mlm_logits(self.model.encoder(batch), masked)  # (B·k, V)
            log_probabilities = logits.float().log_softmax(-1).view(len(chosen), ids.shape[1], -1)  # (B, k, V)
            scores[torch.from_numpy(chosen)] = log_probabilities[:, blanks, ids].mean(-1).cpu()
        return scores


class PairScorer(Scorer):
    """Score of a word: how much more the pair head likes its statement after the text than chance, or than before it.

    With f(A, B) = log-odds that B goes with A in this order, the score is f(text, statement) - f(statement, text) for a head
    trained with ``prompt.pair=swap``, since such a head judges order alone, and f(text, statement) for ``random`` (NSP-BERT,
    Sun et al. 2022).
    """

    needs, blank, usual = "pair", WORD, (WORD,)
    template: StatementTemplate

    def __init__(
        self, settings: PromptSettings, model: Model, tokenizer: Tokenizer, labels: Sequence[str], pair: bool, max_length: int
    ) -> None:
        super().__init__(settings, model, tokenizer, labels, pair, max_length)
        self.template = StatementTemplate(self.chosen, pair, tokenizer, self.max_length, self.where)
        self.template.check(self.words)

    def word_scores(self, texts: Sequence[dict[str, np.ndarray]]) -> Tensor:
        """Return the (contrasted) log-odds of every label word's statement (N, W)."""
        judged = self.template.fill(texts, self.words)
        odds = self._log_odds([(pair.text, pair.statement) for pair in judged])
        if self.settings.pair == "swap":
            odds = odds - self._log_odds([(pair.statement, pair.text) for pair in judged])
        return odds.view(len(texts), len(self.words))

    def _log_odds(self, pairs: Sequence[tuple[np.ndarray, ...]]) -> Tensor:
        odds = torch.empty(len(pairs))
        for chosen, batch in self._batches(pairs):
            logits = self.model.pair_logits(self.model.encoder(batch), batch).float()  # (B, 2): goes with A, does not
            odds[torch.from_numpy(chosen)] = (logits[:, 0] - logits[:, 1]).cpu()
        return odds


class Prompting(pl.LightningModule):
    """A scorer under Lightning's ``Trainer.predict``, for what that gives: devices, precision and a share of the data per rank.

    A batch is a list of examples, a prediction their log-probabilities (N, C). There is nothing to train, so it has none of the
    base of the trained methods.
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
