"""The beginning of a long text has the tokens that count, and tokenising it costs little however long the text is."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from tofro.tokens import beginnings
from tofro.tokens.beginnings import MOST, beginning
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend

PIECES = [*SPECIALS, *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh"), "cab", "##bad", "face", ",", ".", "!"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(bert_backend({piece: number for number, piece in enumerate(PIECES)}, lowercase=True))


def ids(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return tokenizer.encode_flat([text]).ids


@pytest.mark.parametrize("room", [6, 30, 126])
def test_the_first_tokens_are_those_of_the_whole_text(tokenizer: Tokenizer, room: int) -> None:
    draw = random.Random(room)
    kinds = [
        lambda: "".join(draw.choices("abcdefgh", k=draw.randint(1, 200))),  # over a hundred letters: [UNK]
        lambda: draw.choice([",", ".", "!", "!!!!"]),
        lambda: " " * draw.randint(1, 900),
    ]
    for _ in range(3):
        text = "".join(draw.choice(kinds)() + draw.choice(["", " "]) for _ in range(max(400, 30 * room)))
        begun = beginning(text, room, tokenizer)
        assert text.startswith(begun)
        assert ids(tokenizer, begun)[:room].tolist() == ids(tokenizer, text)[:room].tolist()
        assert len(ids(tokenizer, begun)) > room  # so that it is still known to be too long


def test_a_short_text_is_left_whole(tokenizer: Tokenizer) -> None:
    assert beginning("face, cab", 6, tokenizer) == "face, cab"
    assert beginning("", 6, tokenizer) == ""


def test_fifty_million_characters_cost_a_moment(tokenizer: Tokenizer) -> None:
    started = time.monotonic()
    assert len(beginning("cab face " * 5_000_000, 126, tokenizer)) < 50_000
    assert time.monotonic() - started < 2


def test_a_text_without_words_is_given_up_at_some_point(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "MOST", 1 << 14)
    assert MOST > 1 << 14
    assert len(beginning(" " * (1 << 20) + "cab", 6, tokenizer)) == 1 << 14
