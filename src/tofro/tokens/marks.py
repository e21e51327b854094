"""Words for tokenizers that do not cut as BERT's does: white space, punctuation and Han characters cut, whoever the tokenizer.

In: texts and the first character behind each token. Out: the character at which each token begins, white space left out, and
flags of the tokens that begin a word. A byte-level tokenizer spells one character with several tokens, and one made by
SentencePiece begins a text with a mark of its own; such tokens belong to the word of that character. So a word is the same
stretch of text for all tokenizers, as far as their tokens end where it does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from tofro.tokens.segmenter import code_points, is_han
from tofro.tokens.words import text_starts

_ASCII_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")  # BERT takes all of them for punctuation, Unicode not


def cut_words(texts: Sequence[str], begins: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places (N,) int64 and word starts (N,) bool.

    ``begins`` (N,) is the first character of its text that each token stands for, ``offsets`` (S+1,) where the texts begin in N.
    """
    if not len(begins):
        return begins, np.zeros(0, dtype=bool)
    codes = code_points("\n".join(texts) + "\n")
    blank = _flag(codes, str.isspace)
    apart = is_han(codes) | _flag(codes, _is_mark)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    shift = np.repeat(np.cumsum(lengths + 1) - lengths - 1, np.diff(offsets))  # (N,) where the token's text begins in codes
    first, stop = begins + shift, np.repeat(np.cumsum(lengths + 1) - 1, np.diff(offsets))
    following = _next(~blank)[first]
    places = np.where(following < stop, following, first)  # white space by itself belongs to what comes after it
    before = np.maximum(places - 1, 0)
    starts = (apart[before] | blank[before] | apart[places]) & ~blank[places]
    starts[1:] &= places[1:] != places[:-1]
    starts[text_starts(offsets)] = True
    return places - shift, starts


def _next(flags: np.ndarray) -> np.ndarray:
    """Return for each place the next one at or after it that is flagged, their number where there is none."""
    found = np.where(flags, np.arange(len(flags)), len(flags))
    return np.minimum.accumulate(found[::-1])[::-1]


def _flag(codes: np.ndarray, test: Callable[[str], bool]) -> np.ndarray:
    """Test every code point of ``codes`` (N,), each different one once."""
    different, where = np.unique(codes, return_inverse=True)
    return np.fromiter((test(chr(code)) for code in different), bool, len(different))[where]


def _is_mark(character: str) -> bool:
    return character in _ASCII_MARKS or unicodedata.category(character).startswith("P")
