"""Chinese words: where they begin in a row of tokens, by a dictionary and a hidden Markov model for what it lacks.

In: text and the character at which each of its tokens begins. Out: flags over the same tokens. The segmenter (`rjieba`, extra
`zh`) is imported when it is first asked for. It decides between two Han characters and nowhere else: Latin words, numbers and
punctuation stay as the tokenizer cut them, even where the segmenter would join them to a Han character.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from tofro.tokens.words import text_starts

LIBRARY = "rjieba"

# First code point of a block of Han characters and the first one past it, in turn: those that BERT's pre-tokenizer cuts apart.
_HAN = np.array(
    [
        *(0x3400, 0x4DC0, 0x4E00, 0xA000, 0xF900, 0xFB00),
        *(0x20000, 0x2A6E0, 0x2A700, 0x2B820, 0x2B920, 0x2CEB0, 0x2F800, 0x2FA20),
    ],
    dtype=np.uint32,
)


def is_han(codes: np.ndarray) -> np.ndarray:
    """Flag the code points ``codes`` (N,) uint32 that are Han characters."""
    return np.searchsorted(_HAN, codes, side="right") % 2 == 1


def code_points(text: str) -> np.ndarray:
    """Return the code points of ``text``, (characters,) uint32."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def installed() -> bool:
    """Return whether the segmenter is on this machine."""
    return importlib.util.find_spec(LIBRARY) is not None


def words_made_by(words: str) -> dict[str, str]:
    """Return what the identity of tokenised text says of its words: nothing, or ``{"words": segmenter and version}``."""
    if words == "tokenizer":
        return {}
    _segmenter()
    return {"words": f"{LIBRARY} {importlib.metadata.version(LIBRARY)}"}


def chinese_word_starts(text: str, places: np.ndarray, offsets: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Flag the first token of every word, Chinese words included.

    ``text`` is S texts, a line break between two. ``places`` (N,) is the character of it at which each token begins, ``offsets``
    (S+1,) where the texts begin in N, ``starts`` (N,) bool the tokenizer's own flags. Between two tokens that begin with Han
    characters the segmenter decides; where only one of them does, a word begins.
    """
    begins = np.zeros(len(text) + 1, dtype=bool)
    cut = _segmenter()(text)
    begins[np.cumsum(np.fromiter(map(len, cut), np.int64, len(cut)))] = True
    han = is_han(code_points(text)[places])
    before, after = han[:-1], han[1:]
    flags = starts.copy()
    flags[1:] = np.where(before & after, begins[places[1:]], starts[1:] | (before != after))
    flags[1:] &= places[1:] != places[:-1]  # a tokenizer of bytes spells one character with several tokens
    flags[text_starts(offsets)] = True
    return flags


@lru_cache(maxsize=1)
def _segmenter() -> Callable[[str], list[str]]:
    """Return the function that cuts a text into pieces which joined give the text; its dictionary is no one else's to change."""
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError as error:
        raise ValueError(
            f"corpus.words: Chinese words need the package {LIBRARY}, which is not installed; pip install 'tofro[zh]', or set "
            "corpus.words=tokenizer (each Han character is a word) or objective.mask_unit=token"
        ) from error
    cut: Callable[[str], list[str]] = library.Jieba().cut
    return cut
