"""Statements about a text, one per label word, for a sentence-pair head to judge. Torch-free.

In: a template such as ``"This is about {word}."`` (with {text_b} too where the task has pairs), label words, the texts of
examples. Out: per example and label word the two segments, text and statement, as token ids. The text is cut to fit, and
{text_b} with it; the rest of the statement never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tofro.tokens.cloze import MASK, LabelWord, parse_template, share_room
from tofro.tokens.tokenizer import Tokenizer

WORD = "{word}"


@dataclass(frozen=True)
class Judged:
    """What the pair head reads: ids of the text (n,) and of the statement (m,), neither with special tokens."""

    text: np.ndarray
    statement: np.ndarray


class StatementTemplate:
    """A parsed statement template; ``max_length`` counts the special tokens of a pair."""

    def __init__(self, template: str, pair: bool, tokenizer: Tokenizer, max_length: int, where: str) -> None:
        self.pieces = parse_template(template, ("word", "text_b") if pair else ("word",), tokenizer, where)
        self.max_length, self.special, self.where = max_length, tokenizer.added(2), where
        if any(piece.is_mask for piece in self.pieces):
            raise ValueError(f"{where}: a statement for the pair head holds no {MASK}; write {WORD} where the label word goes")
        if not any(piece.field == "word" for piece in self.pieces):
            raise ValueError(f"{where}: the statement would be the same for every label; write {WORD} where the label word goes")
        self.times_b = sum(piece.field == "text_b" for piece in self.pieces)

    def place(self, field: str) -> bool | None:
        """Return what stands before a text: nothing (None) before text_a, a segment of its own; else whether a space does."""
        return next((piece.spaced for piece in self.pieces if piece.field == field), None)

    def check(self, words: Sequence[LabelWord]) -> None:
        """Raise ValueError where a statement leaves no room for text."""
        for word in words:
            if self._room(word) < 1:
                raise ValueError(
                    f"{self.where}: the statement for {word.word!r} fills task.max_length={self.max_length} and leaves no room "
                    "for the text; shorten the one or raise the other"
                )

    def fill(self, texts: Sequence[Mapping[str, np.ndarray]], words: Sequence[LabelWord]) -> list[Judged]:
        """Return the pairs of every example with every word, the words of one example next to each other."""
        return [self._fill_one(text, word) for text in texts for word in words]

    def _fill_one(self, text: Mapping[str, np.ndarray], word: LabelWord) -> Judged:
        times = {"text_a": 1, "text_b": self.times_b}
        used = {name: len(text[name]) for name in text if times[name]}
        keep = share_room(used, {name: times[name] for name in used}, self._room(word))
        kept = {"word": word.ids} | {name: text[name][: keep[name]] for name in used}
        parts = [kept[piece.field] if piece.field is not None else piece.ids for piece in self.pieces]
        return Judged(kept["text_a"], np.concatenate([part for part in parts if part is not None]))

    def _room(self, word: LabelWord) -> int:
        literal = sum(len(piece.ids) for piece in self.pieces if piece.ids is not None)
        repeats = sum(piece.field == "word" for piece in self.pieces)
        return self.max_length - self.special - literal - repeats * len(word.ids)
