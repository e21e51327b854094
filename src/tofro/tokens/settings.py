"""Settings of the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from omegaconf import MISSING

from tofro.declare import setting


@dataclass
class TokenizerSettings:
    """A WordPiece tokenizer, trained on the corpus or read from a folder."""

    path: Optional[str] = setting(None, "folder with a tokenizer.json; null trains one on the corpus")
    vocabulary: int = setting(8192, "entries of the vocabulary, special tokens included", low=64, multiple_of=64)
    lowercase: bool = setting(True, "fold case and strip accents")
    min_frequency: int = setting(2, "a merge seen less often is not learnt", low=1)
    megabytes: float = setting(
        64.0, "megabytes of text the training reads; documents beyond it, by content hash, are left out", above=0
    )


@dataclass
class PromptSettings:
    """How a task is put to the pretrained model without training it."""

    _target_: str = setting(MISSING, "class that scores labels: (settings, model, tokenizer, labels, pair, max_length) -> scorer")
    templates: list[str] = setting(
        [],
        "wordings of the question, with {text_a}, {text_b} and, in a cloze, one or more [MASK]; "
        "for the pair head, statements with {word} and perhaps {text_b}",
    )
    template: Optional[int] = setting(
        0, "which of the templates this run uses, counted from 0; null asks them all and averages their answers", low=0
    )
    words: dict[str, list[str]] = setting({}, "label -> words that stand for it in the place of [MASK] or {word}")
    calibration: str = setting(
        "contextual",
        "what is taken from the scores: contextual, the labels' in the text N/A; pmi, the words' in an empty text; "
        "batch, the labels' mean over the texts scored together; none",
        choices=("contextual", "pmi", "batch", "none"),
    )
    pair: str = setting(
        "swap",
        "objective the pair head was trained with; swap contrasts both orders of text and statement",
        choices=("swap", "random"),
    )
    rare: int = setting(
        100,
        "a label word that pretraining met less often is noted: at a mask rate of 15% it was asked for some 15 times a pass",
        low=0,
    )


@dataclass
class SearchSettings(PromptSettings):
    """How a cloze prompt is found on a few labelled examples (modules/prompt_search.py)."""

    patterns: list[str] = setting([], "wordings with slots like <lead>, from which templates are made; with {text_b} for pairs")
    slots: dict[str, list[str]] = setting({}, "slot -> what it may hold; the first filling of every pattern proposes label words")
    shots: Optional[int] = setting(
        16, "training rows of each label that the search looks at; null means all of the task's training rows", low=2
    )
    draw: int = setting(0, "which choice of these rows, by content hash", low=0)
    budget: int = setting(2000, "candidates, a template with words, that are judged at most", low=1)
    candidates: int = setting(8, "words proposed for each label", low=1)
    label_words: int = setting(2, "words that may stand for one label together, at most", low=1)
    beam: int = setting(4, "templates, the best with the first words, for which words are chosen", low=1)
    keep: int = setting(3, "templates of the prompt that is found, best first, with the same words", low=1)
