"""Prompt search: a template and label words for a task, found on a few labelled examples. No parameter changes.

In: examples of every label, a grammar of templates. Out: :class:`Found`. Label words come from the model: those that it expects
in the blank under one label's examples more than under the others' (Schick et al. 2020; Gao et al. 2021). Leaves out which
rows these are, the journal and what is written (runs/searching.py); it is never given any others.

N examples, C labels, W words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tofro.encoders.model import Model
from tofro.modules.blanks import Blanks
from tofro.modules.calibration import CONTENT_FREE, answers
from tofro.progress import Progress
from tofro.text.task import Example
from tofro.tokens.cloze import MASK, check_labels, place_of
from tofro.tokens.grammar import expand
from tofro.tokens.settings import SearchSettings
from tofro.tokens.tokenizer import Tokenizer

POOL = 2000  # a label word is among so many that the model finds likeliest over all examples
Words = dict[str, list[str]]  # label -> words
Record = Callable[[str, Any], None]  # (name of what was computed, its value)


@dataclass(frozen=True, order=True)
class Judgement:
    """What a candidate is worth: how many examples it answers rightly, then log P of their labels, a nat off for every word."""

    accuracy: float
    fit: float


@dataclass(frozen=True)
class Found:
    """The prompt that a search ends with: templates, best first, words, and what each is worth on the examples."""

    templates: list[str]
    words: Words
    judgements: list[Judgement]
    tried: int


class Spent(Exception):
    """The budget is used up."""


class PromptSearch:
    """Chooses templates with the first words, then words for the best templates, one label at a time, until nothing improves.

    Every step follows from what was computed before, so a search that is given what was recorded goes on where it stopped.
    """

    needs = "mlm"

    def __init__(
        self, settings: SearchSettings, model: Model, tokenizer: Tokenizer, labels: Sequence[str], pair: bool, max_length: int
    ) -> None:
        """Raises ValueError naming the ``prompt`` key at fault."""
        if self.needs not in model.heads:
            raise ValueError("prompt: the model has no mlm head, which a search asks; start from a folder that has one")
        check_labels({label: [MASK] for label in labels}, labels)
        for name in ("templates", "words"):
            if getattr(settings, name):
                raise ValueError(f"prompt.{name}: a search finds them; leave it out, or use another prompt=...")
        self.settings, self.model, self.tokenizer = settings, model, tokenizer
        self.labels, self.pair, self.max_length = tuple(labels), pair, max_length
        groups = expand(settings.patterns, settings.slots, pair)
        self.simple = [group[0] for group in groups]
        self.templates = list(dict.fromkeys(template for group in groups for template in group))
        wrong = next((template for template in self.templates if template.count(MASK) != 1), None)
        if wrong:
            raise ValueError(f"prompt.patterns: {wrong!r} needs exactly one {MASK} to search words for")

    def find(self, rows: Sequence[Example], known: Mapping[str, Any], record: Record, progress: Progress) -> Found:
        """Return the best prompt for ``rows``; ``known`` is what ``record`` was called with before."""
        trial = _Trial(self, rows, known, record, progress)
        words = trial.propose()
        first = {label: words[label][:1] for label in self.labels}
        try:
            for template in self.templates:
                trial.judge(template, first)
            for template in [template for template, _ in trial.ranked(first)][: self.settings.beam]:
                self._improve(trial, template, first, words)
            best = trial.best[1]
            for template in [template for template, _ in trial.ranked(first)][: max(self.settings.beam, self.settings.keep)]:
                trial.judge(template, best)
        except Spent:
            pass
        ranked = trial.ranked(trial.best[1])[: self.settings.keep]
        return Found([template for template, _ in ranked], trial.best[1], [judgement for _, judgement in ranked], trial.tried)

    def _improve(self, trial: _Trial, template: str, start: Words, proposed: Words) -> None:
        """Change the words of one label after the other as long as that makes ``template`` better."""
        words, reached, better = start, trial.judge(template, start), True
        while better:
            better = False
            for label in self.labels:
                for option in _options(words[label], proposed[label], self.settings.label_words):
                    judgement = trial.judge(template, words | {label: option})
                    if judgement > reached:
                        words, reached, better = words | {label: option}, judgement, True


def _options(chosen: Sequence[str], proposed: Sequence[str], most: int) -> Iterator[list[str]]:
    """Yield other words for a label: each one alone, and each one beside those that it has."""
    for word in proposed:
        if [word] != list(chosen):
            yield [word]
    for word in proposed if len(chosen) < most else ():
        if word not in chosen:
            yield [*chosen, word]


@dataclass
class _Trial:
    """One search on its rows: what was computed, by name, and the best so far."""

    search: PromptSearch
    rows: Sequence[Example]
    known: Mapping[str, Any]
    record: Record
    progress: Progress
    judged: dict[tuple[str, str], Judgement] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)  # template -> log P (N + 1, W) of the proposed words
    proposed: list[str] = field(default_factory=list)
    best: tuple[str, Words, Judgement] = ("", {}, Judgement(-1.0, 0.0))

    def __post_init__(self) -> None:
        search = self.search
        self.truth = np.array([search.labels.index(str(row.label)) for row in self.rows])  # (N,)
        self.blanks = Blanks(search.model, search.tokenizer, search.pair, search.max_length)
        text = CONTENT_FREE.get(search.settings.calibration, "")
        self.free = Example(text, text if search.pair else None, "")
        self.order: dict[str, int] = {template: number for number, template in enumerate(search.templates)}

    @property
    def tried(self) -> int:
        """Number of candidates judged."""
        return len(self.judged)

    def propose(self) -> Words:
        """Return the words proposed for each label, no word for two."""
        words: Words | None = self.known.get("words")
        if words is None:
            words = self._propose()
            self.record("words", words)
        self.proposed = [word for each in words.values() for word in each]
        return words

    def judge(self, template: str, words: Words) -> Judgement:
        """Return what the candidate is worth; :class:`Spent` where it is new and the budget is used up."""
        chosen = [words[label] for label in self.search.labels]
        key = (template, "|".join(" ".join(each) for each in chosen))
        if key in self.judged:
            return self.judged[key]
        if self.tried >= self.search.settings.budget:
            raise Spent
        name = " => ".join(key)
        if name in self.known:
            judgement = Judgement(*self.known[name])
        else:
            judgement = self._judge(template, chosen)
            self.record(name, [judgement.accuracy, judgement.fit])
        self.judged[key] = judgement
        if judgement > self.best[2]:
            self.best = (template, words, judgement)
        self.progress(self.tried, self.search.settings.budget)
        return judgement

    def ranked(self, words: Words) -> list[tuple[str, Judgement]]:
        """Return the templates judged with ``words``, best first, the grammar's order on a tie."""
        spelt = "|".join(" ".join(words[label]) for label in self.search.labels)
        found = [(template, judgement) for (template, other), judgement in self.judged.items() if other == spelt]
        return sorted(found, key=lambda each: (-each[1].accuracy, -each[1].fit, self.order[each[0]]))

    def _judge(self, template: str, chosen: Sequence[Sequence[str]]) -> Judgement:
        if template not in self.tables:
            ids = [self._id(word, template) for word in self.proposed]
            self.tables[template] = self._ask(template, [*self.rows, self.free])[:, ids]
        columns = [self.proposed.index(word) for words in chosen for word in words]
        owner = torch.tensor([label for label, words in enumerate(chosen) for _ in words])
        table = torch.from_numpy(self.tables[template][:, columns])  # (N + 1, W)
        found = answers(self.search.settings.calibration, table[None, :-1], table[None, -1:], owner).calibrated[0].numpy()
        fit = float(found[np.arange(len(self.truth)), self.truth].sum()) - len(columns)
        return Judgement(float(np.mean(found.argmax(-1) == self.truth)), fit)

    def _ask(self, template: str, examples: Sequence[Example]) -> np.ndarray:
        found = self.blanks.log_probabilities(template, examples, f"prompt.patterns: {template!r}")
        return found[:, 0].numpy().astype(np.float64)  # (N, V)

    def _id(self, word: str, template: str) -> int:
        return int(self.search.tokenizer.encode_inside([word], place_of(template, MASK))[0].ids[0])

    def _propose(self) -> Words:
        """Score words by how much likelier they are under a label than under the others, in spreads, over simple templates."""
        asked = [self._ask(template, self.rows) for template in self.search.simple]  # (N, V) each
        likely = np.mean([np.exp(table).mean(0) for table in asked], 0)  # (V,)
        whole, first, second = (
            np.sum([self._contrast(table, part) for table in asked], 0)
            for part in (slice(None), slice(0, None, 2), slice(1, None, 2))
        )
        return self._choose(whole, np.minimum(first, second), likely)

    def _contrast(self, table: np.ndarray, part: slice) -> np.ndarray:
        """Return (C, V): the mean log P under a label less the mean of the other labels' means, in standard deviations."""
        groups = [table[self.truth == label][part] for label in range(len(self.search.labels))]
        means = np.stack([group.mean(0) for group in groups])
        spread = np.sqrt(np.mean([group.var(0) for group in groups], 0)) + 1e-6
        spread = spread + np.median(spread)  # a word that never varies is no better for it
        others = (means.sum(0) - means) / max(len(groups) - 1, 1)
        contrast: np.ndarray = (means - others) / spread
        return contrast

    def _choose(self, contrast: np.ndarray, worse_half: np.ndarray, likely: np.ndarray) -> Words:
        """Give each label its best words: whole words of the pool, first those that hold in both halves of the examples."""
        whole = [index for index in np.argsort(-likely, kind="stable")[:POOL] if self._is_word(int(index))]
        owner = contrast[:, whole].argmax(0) if whole else np.empty(0, int)
        words: Words = {}
        for number, label in enumerate(self.search.labels):
            mine = [index for index, label_of in zip(whole, owner, strict=True) if label_of == number]
            mine.sort(key=lambda index: (worse_half[number, index] <= 0, -contrast[number, index]))
            held = [index for index in mine if worse_half[number, index] > 0] or mine
            words[label] = [self._written(int(index)) for index in held[: self.search.settings.candidates]]
            if not words[label]:
                raise ValueError(f"prompt: the search finds no word for the label {label!r}; give words with prompt=... instead")
        return words

    def _written(self, index: int) -> str:
        return str(self.search.tokenizer.written[index])

    def _is_word(self, index: int) -> bool:
        """Say whether a token is a word by itself in every template: no piece, no punctuation, no single letter."""
        tokenizer, word = self.search.tokenizer, self._written(index)
        if tokenizer.special[index] or not word.isalpha() or (len(word) < 2 and word.isascii()):
            return False
        places = {place_of(template, MASK) for template in self.search.templates}
        spelt = [tokenizer.encode_inside([word], place)[0].ids.tolist() for place in places]
        return [index] in spelt and all(len(ids) == 1 for ids in spelt)
