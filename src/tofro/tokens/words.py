"""Where words begin in a row of tokens.

In: the word ids that a tokenizer reports beside its tokens. Out: flags and numbers of words, as arrays over the same tokens.

A word is what the tokenizer's own pre-tokenizer cut out of the text, never a guess from how a token is spelt: "##" marks a
continuation in one family of tokenizers only. The BERT pre-tokenizer cuts at white space and makes every punctuation mark and
every Han character a word of its own; ``segmenter.py`` joins those into Chinese words.
"""

from __future__ import annotations

import numpy as np


def word_starts(word_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Flag the first token of every word.

    ``word_ids`` (N,) holds, text after text, the word each token belongs to; ``offsets`` (S+1,) says where the texts begin.
    Returns (N,) bool. The first token of a text always begins a word.
    """
    starts = np.empty(len(word_ids), dtype=bool)
    np.not_equal(word_ids[1:], word_ids[:-1], out=starts[1:])
    starts[text_starts(offsets)] = True
    return starts


def text_starts(offsets: np.ndarray) -> np.ndarray:
    """Return the place of the first token of every text that has one; ``offsets`` (S+1,) as in :func:`word_starts`."""
    firsts = offsets[:-1]
    found: np.ndarray = firsts[firsts < offsets[1:]]
    return found


def word_numbers(starts: np.ndarray) -> np.ndarray:
    """Number the words of one text from 0: ``starts`` (N,) bool -> (N,) int32."""
    return np.cumsum(starts, dtype=np.int32) - 1
