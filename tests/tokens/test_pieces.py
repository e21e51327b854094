"""Tokenising by remembered pieces: exactly what the tokenizer gives for each sentence."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tofro.tokens import pieces
from tofro.tokens.pieces import Encoded, Encoder
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

TEXT = "The river it's e-mail naïve Ünïted (see 2.5) 中文 字a字 don’t [MASK] ##ing İstanbul"
WORDS = TEXT.split(" ")
# What could go wrong: marks after anything, spaces of every kind, Han characters outside the pattern, controls, long words.
HARD = [*"aé\u0301\u0308\u0338,.'’中字\u3400豈\U00020000 \t\u00a0\u3000\u200d\u0000\u0085\ufffd、。\u1fef½ß#[]🙂", "x" * 120]


def train(**changes: object) -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=256, min_frequency=1, **changes), [TEXT] * 3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cutters() -> list[Encoder]:
    """Encoders of both cases and of BERT's other settings."""
    plain = train()
    found = [plain, train(lowercase=False)]
    for change in ({"handle_chinese_chars": False}, {"strip_accents": False}, {"clean_text": False}):
        layout = json.loads(plain.backend.to_str())
        layout["normalizer"] |= change
        found.append(Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(layout))))
    return [Encoder(tokenizer) for tokenizer in found]


def same(encoded: Encoded, tokenizer: Tokenizer, sentences: list[str], words: str = "tokenizer") -> None:
    flat = tokenizer.encode_flat(sentences, words)
    assert np.array_equal(encoded.ids, flat.ids)
    assert np.array_equal(encoded.word_starts, flat.word_starts)
    assert np.array_equal(encoded.lengths, np.diff(flat.offsets))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.sampled_from([*WORDS, *HARD, " "]), max_size=8).map("".join), max_size=5))
def test_pieces_give_the_tokens_of_every_sentence(cutters: list[Encoder], sentences: list[str]) -> None:
    for encoder in cutters:
        assert encoder.by_pieces
        same(encoder.encode("".join(f"{sentence}\n" for sentence in sentences)), encoder.tokenizer, sentences)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(st.sampled_from([*WORDS, *HARD, *"我们去公园吧天气好北京大学 "]), max_size=12).map("".join), max_size=5))
def test_pieces_keep_the_segmenters_words(cutters: list[Encoder], sentences: list[str]) -> None:
    pytest.importorskip("rjieba", reason="needs the extra zh")
    for cutter in cutters:
        encoder = Encoder(cutter.tokenizer, "segmenter")
        same(encoder.encode("".join(f"{sentence}\n" for sentence in sentences)), cutter.tokenizer, sentences, "segmenter")


def test_memory_that_is_full_is_begun_anew(cutters: list[Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "REMEMBERED", 20)
    monkeypatch.setattr(pieces, "CHUNK", 64)
    encoder = Encoder(cutters[0].tokenizer)
    draw = random.Random(0)
    sentences = [" ".join(f"{draw.choice(WORDS)}{draw.randrange(30)}" for _ in range(6)) for _ in range(50)]
    same(encoder.encode("".join(f"{sentence}\n" for sentence in sentences)), encoder.tokenizer, sentences)
    assert len(encoder.memory.numbers) < 60  # of some 400 different pieces


@pytest.mark.parametrize("change", ["added token", "normalizer", "pre-tokenizer"])
def test_other_tokenizers_go_the_long_way(change: str, tmp_path: Path) -> None:
    backend = train().backend
    if change == "added token":  # may span a space
        backend.add_tokens(["the river"])
    elif change == "normalizer":
        backend.normalizer = tokenizers.normalizers.Replace(" r", "r")
    else:
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(" r", "isolated")
    tokenizer = Tokenizer(backend)
    encoder = Encoder(tokenizer)
    assert not encoder.by_pieces
    sentences = ["the river", "", "see the river"]
    same(encoder.encode("".join(f"{sentence}\n" for sentence in sentences)), tokenizer, sentences)
