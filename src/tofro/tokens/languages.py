"""Can whole words be found in a corpus? In which languages they can, and what to say where they can't.

In: a corpus, its settings and the mask unit. Out: where its words come from, or a ValueError that says what to do. White space
shows words in most languages; Chinese has a segmenter; Japanese, Thai, Lao, Khmer and Burmese have neither here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tofro.text.settings import CorpusSettings, base_language
from tofro.tokens.segmenter import code_points, installed, is_han, words_made_by

SPACELESS = ("ja", "km", "lo", "my", "th", "yue")  # besides zh, which has the segmenter
SAMPLE = 20_000  # characters looked at
HIGH_RATE = 0.15  # of Chinese words; roberta_zh went down to 0.1
# First code point and the first one past it, in turn: Thai and Lao, Burmese, Khmer, kana.
_SCRIPTS = np.array([0x0E00, 0x0F00, 0x1000, 0x10A0, 0x1780, 0x1800, 0x3040, 0x3100], dtype=np.uint32)
_WAYS_OUT = (
    "set corpus.words=tokenizer (white space and punctuation cut, each Han character is a word) or objective.mask_unit=token"
)


class Corpus(Protocol):
    """What is asked of a corpus here."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def words(self) -> str:
        """Where whole words come from: ``tokenizer`` or ``segmenter``."""

    def documents(self, split: Any) -> Iterator[list[str]]:
        """Yield the documents of a split, each a list of sentences."""


def find_words(corpus: Corpus, settings: CorpusSettings, unit: str) -> str:
    """Return where the words of ``corpus`` come from for masks of ``unit`` (word, span or token).

    Raises ValueError where whole words are asked for and can't be found: the segmenter is missing, or the language is written
    without spaces, as declared or as the first :data:`SAMPLE` characters show. With unit token nothing is refused; evaluation,
    whose unit is the word always, then takes characters for words, with a warning. ``corpus.words=tokenizer`` is taken as it is.
    """
    if corpus.words == "segmenter":
        if unit == "token" and not installed():
            warnings.warn(
                "corpus.words: the segmenter (extra zh) is not installed; held-out masks hide characters, not words, "
                "so that validation/mlm_loss does not compare with runs that have it",
                stacklevel=2,
            )
            return "tokenizer"
        words_made_by("segmenter")
    elif settings.words == "auto" and unit != "token":
        if base_language(settings.language) in SPACELESS:
            raise ValueError(
                f"corpus.language={settings.language}: written without spaces, so whole words can't be found; {_WAYS_OUT}"
            )
        if spaceless_share(corpus) > 0.5:
            raise ValueError(
                f"corpus {corpus.name}: corpus.language={settings.language}, but most of its letters belong to scripts written "
                f"without spaces; set corpus.language (zh for Chinese), or {_WAYS_OUT}"
            )
    return corpus.words


def warn_of_rate(words: str, unit: str, rate: float) -> None:
    """Warn where a run masks as many Chinese words as one would English ones."""
    if words == "segmenter" and unit != "token" and rate >= HIGH_RATE:
        warnings.warn(
            f"objective.mask_rate={rate:g}: masks of whole Chinese words can converge badly at this rate; roberta_zh used 0.1",
            stacklevel=2,
        )


def spaceless_share(corpus: Corpus) -> float:
    """Return the share of letters that are Han, kana, Thai, Lao, Khmer or Burmese at the beginning of the train split."""
    sample = ""
    for document in corpus.documents("train"):
        sample += "".join(document)[:SAMPLE]
        if len(sample) >= SAMPLE:
            break
    letters = code_points("".join(character for character in sample if character.isalpha()))
    spaceless = is_han(letters) | (np.searchsorted(_SCRIPTS, letters, side="right") % 2 == 1)
    return float(spaceless.mean()) if len(letters) else 0.0
