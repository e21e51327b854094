"""Words and their tags in packed batches: which token stands for a word, and what becomes of words without one.

In: rows of words, a tokenizer. Out: the tokens of each row, and for any choice of rows the tags of all their words with the place
of the token that stands for each: the first of the word's own. A word that yields no token (a control character), or that lies
beyond the longest sequence, has none; it is pointed at [CLS], which stands for no word, so it is neither trained on nor
predicted, but counts as O in every metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tofro.batches.packing import ragged
from tofro.tokens.tokenizer import Tokenizer

BLOCK = 65_536  # different words tokenised at a time


@dataclass(frozen=True)
class TokenisedWords:
    """The tokens of S rows of words, one row after the other; N tokens, W words."""

    ids: np.ndarray  # (N,) int32
    word_starts: np.ndarray  # (N,) bool, first token of one of the rows' words
    offsets: np.ndarray  # (S+1,) int64, where each row begins in N
    lengths: np.ndarray  # (W,) int64, tokens of each word, perhaps none
    rows: np.ndarray  # (S+1,) int64, where each row begins in W


def tokenise_words(rows: Sequence[Sequence[str]], tokenizer: Tokenizer) -> TokenisedWords:
    """Tokenise every word by itself, each different one once: no tokenizer looks beyond the white space before a word."""
    number: dict[str, int] = {}
    words = np.array([number.setdefault(word, len(number)) for row in rows for word in row], np.int64)  # (W,)
    different = list(number)
    blocks = [tokenizer.encode_words(different[start : start + BLOCK]) for start in range(0, len(different), BLOCK)]
    ids = np.concatenate([block.ids for block in blocks])
    sizes = np.concatenate([np.diff(block.offsets) for block in blocks])
    lengths = sizes[words]
    bounds = np.cumsum(np.concatenate([[0], [len(row) for row in rows]]))
    starts = np.zeros(int(lengths.sum()), dtype=bool)
    starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    offsets = np.concatenate([[0], np.cumsum(lengths)])[bounds]
    return TokenisedWords(ids[ragged((np.cumsum(sizes) - sizes)[words], lengths)], starts, offsets, lengths, bounds)


class WordTags:
    """The tags of rows of words whose sequences hold at most ``room`` tokens of theirs."""

    def __init__(self, words: TokenisedWords, room: int, tags: np.ndarray | None) -> None:
        """``tags`` (W,) are class numbers; None leaves them out. ``lost`` counts the words of each row without a token."""
        before = np.cumsum(words.lengths) - words.lengths - np.repeat(words.offsets[:-1], np.diff(words.rows))
        self.places = np.where((words.lengths > 0) & (before < room), before + 1, 0)  # (W,), from [CLS], which is at 0
        self.rows, self.tags = words.rows, tags
        self.lost = np.add.reduceat(self.places == 0, words.rows[:-1])  # (S,); no row is empty

    def of(self, samples: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the tokens (W,) of the words of ``samples`` (B,), packed at ``offsets`` (B+1,), and their tags (W,)."""
        counts = np.diff(self.rows)[samples]
        chosen = ragged(self.rows[samples], counts)
        return self.places[chosen] + np.repeat(offsets[:-1], counts), None if self.tags is None else self.tags[chosen]


def number_tags(rows: Iterable[object], labels: tuple[str, ...]) -> np.ndarray:
    """Return the class numbers (W,) int64 of all tags, by the order of ``labels``; ValueError for a tag not among them."""
    number = {label: place for place, label in enumerate(labels)}
    tags = [tag for row in rows if isinstance(row, tuple) for tag in row]
    unknown = next((tag for tag in tags if tag not in number), None)
    if unknown is not None:
        raise ValueError(f"task.path: tag {unknown!r} does not occur in the training split (known: {', '.join(labels)})")
    return np.array([number[tag] for tag in tags], dtype=np.int64)
