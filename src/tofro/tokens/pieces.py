"""Tokens of running text, fast: every piece of text is tokenised once and remembered.

In: sentences as one string, each ended by a line break. Out: :class:`Encoded`, exactly what :meth:`Tokenizer.encode_flat` gives
for the sentences one by one. Language repeats itself: a corpus of ten million words has a few hundred thousand different ones,
and looking a word up costs a small part of tokenising it.

Why it is exact. BERT's normaliser works character by character (a mark combines only within a run of non-ASCII letters or after
a letter), and its pre-tokenizer cuts at white space, at punctuation and around Han characters. So the tokens of a text are the
tokens of its pieces between spaces, ASCII punctuation marks and the common Han characters, one after the other. Tokenizers of
any other make take the long way, text by text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tofro.tokens.segmenter import chinese_word_starts
from tofro.tokens.tokenizer import TokenizedTexts, Tokenizer

CHUNK = 1 << 16  # characters looked up at a time; what they take on the way, some forty times as much, fits the processor's cache
REMEMBERED = 1 << 18  # pieces; about 50 MB
LONGEST_REMEMBERED = 1 << 22  # characters of all pieces together
ENCODED_AT_ONCE = 4096  # pieces, or texts the long way

_MARKS = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"


@dataclass(frozen=True)
class Encoded:
    """The tokens of S sentences, one after the other."""

    ids: np.ndarray  # (N,) int32
    word_starts: np.ndarray  # (N,) bool
    lengths: np.ndarray  # (S,) int64, tokens of each sentence


class Encoder:
    """Tokenises running text with a memory for pieces."""

    def __init__(self, tokenizer: Tokenizer, words: str = "tokenizer") -> None:
        """``words`` says what a word is, as in :meth:`Tokenizer.encode_flat`."""
        self.tokenizer = tokenizer
        self.words = words
        made_of = json.loads(tokenizer.backend.to_str())
        self.by_pieces = _cuts_like_bert(made_of)
        apart = _MARKS + (_HAN if (made_of["normalizer"] or {}).get("handle_chinese_chars") else "")
        spaces = "" if words == "tokenizer" else "| +"  # with them no character is left out, and lengths tell places
        self.find = re.compile(rf"[\n{apart}]|[^ \n{apart}]+{spaces}").findall
        self.memory = Memory(tokenizer)

    def encode(self, text: str) -> Encoded:
        """Tokenise ``text``: S sentences, each ended by a line break, which no sentence holds inside."""
        parts = [self._look_up(chunk) if self.by_pieces else self._by_sentence(chunk) for chunk in _chunks(text)]
        if len(parts) == 1:
            return parts[0]
        return Encoded(
            np.concatenate([np.zeros(0, dtype=np.int32), *(part.ids for part in parts)]),
            np.concatenate([np.zeros(0, dtype=bool), *(part.word_starts for part in parts)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(part.lengths for part in parts)]),
        )

    def _look_up(self, text: str) -> Encoded:
        pieces = self.find(text)
        numbers = self.memory.recall(pieces)  # (pieces,)
        sizes = self.memory.sizes[numbers]
        ends = np.cumsum(sizes)  # (pieces,) tokens up to the end of each piece
        total = int(ends[-1]) if len(ends) else 0
        source = np.arange(total) + np.repeat(self.memory.starts[numbers] - ends + sizes, sizes)
        starts = self.memory.word_starts[source]
        offsets = np.concatenate([[0], ends[numbers == Memory.LINE_BREAK]])  # (S+1,)
        if self.words == "segmenter":
            lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
            places = self.memory.places[source] + np.repeat(np.cumsum(lengths) - lengths, sizes)
            starts = chinese_word_starts(text, places, offsets, starts)
        return Encoded(self.memory.ids[source], starts, np.diff(offsets))

    def _by_sentence(self, text: str) -> Encoded:
        flat = self.tokenizer.encode_flat(text.split("\n")[:-1], self.words)
        return Encoded(flat.ids, flat.word_starts, np.diff(flat.offsets))


class Memory:
    """The tokens of pieces seen so far, P of them: ``ids`` and ``word_starts``, and where each piece lies in them.

    Piece 0 is the line break, which has no token. Full memory is given up and begun anew, so that it follows the text.
    """

    LINE_BREAK = 0

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._forget()

    def recall(self, pieces: list[str]) -> np.ndarray:
        """Return the numbers of ``pieces`` (n,), having learnt those that are new."""
        if len(self.numbers) > REMEMBERED or self.characters > LONGEST_REMEMBERED:
            self._forget()
        known = len(self.numbers)
        numbers = np.fromiter(map(self.numbers.__getitem__, pieces), np.int64, len(pieces))
        new = self.numbers.new[known:]
        for first in range(0, len(new), ENCODED_AT_ONCE):
            self._learn(*self.tokenizer.encode_placed(new[first : first + ENCODED_AT_ONCE]))
        self.characters += sum(map(len, new))
        return numbers

    def _forget(self) -> None:
        self.numbers = _Numbers()
        self.characters = 0
        self.ids = np.zeros(0, dtype=np.int32)  # (tokens of all pieces,)
        self.word_starts = np.zeros(0, dtype=bool)
        self.places = np.zeros(0, dtype=np.int64)  # the character of its piece at which each token begins
        self.starts = np.zeros(0, dtype=np.int64)  # (P,) where each piece begins in ids
        self.sizes = np.zeros(0, dtype=np.int64)  # (P,) its tokens
        assert self.numbers["\n"] == self.LINE_BREAK
        self._learn(TokenizedTexts(self.ids, self.word_starts, np.zeros(2, dtype=np.int64)), self.places)

    def _learn(self, flat: TokenizedTexts, places: np.ndarray) -> None:
        self.starts = np.concatenate([self.starts, len(self.ids) + flat.offsets[:-1]])
        self.sizes = np.concatenate([self.sizes, np.diff(flat.offsets)])
        self.ids = np.concatenate([self.ids, flat.ids])
        self.word_starts = np.concatenate([self.word_starts, flat.word_starts])
        self.places = np.concatenate([self.places, places])


class _Numbers(dict[str, int]):
    """Numbers pieces in the order in which they are first asked for; ``new`` lists them in that order."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, piece: str) -> int:
        number = self[piece] = len(self.new)
        self.new.append(piece)
        return number


def _cuts_like_bert(made_of: dict[str, dict]) -> bool:
    """Tell whether a tokenizer's own description has the parts on which the module's argument rests, and no words added."""
    kinds = [(made_of.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
    return kinds == ["BertNormalizer", "BertPreTokenizer"] and all(added["special"] for added in made_of["added_tokens"])


def _chunks(text: str) -> Iterator[str]:
    """Cut ``text`` behind line breaks into chunks of about :data:`CHUNK` characters."""
    start = 0
    while start < len(text):
        end = text.find("\n", min(start + CHUNK, len(text) - 1)) + 1
        yield text[start:end]
        start = end
