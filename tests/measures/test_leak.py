from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tofro.batches.settings import ObjectiveSettings
from tofro.measures import leak as leaks
from tofro.measures.leak import leak_accuracy
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import TokenStore, open_store
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

WORDS = "river stone garden bridge letter window market harbour".split()  # noqa: SIM905


@dataclass(frozen=True)
class Shuffled:
    """Documents of sentences in no order at all: nothing can be learnt about what follows what."""

    name: str = "shuffled"
    fingerprint: str = "0" * 64
    words: str = "tokenizer"

    def documents(self, split: str, reading: object = None) -> Iterator[list[str]]:
        draw = random.Random(split)
        for _ in range(150):
            yield [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) + " ." for _ in range(draw.randint(4, 12))]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStore, TokenStore, Tokenizer]:
    folder, corpus = tmp_path_factory.mktemp("stores"), Shuffled()
    texts = [sentence for document in corpus.documents("train") for sentence in document]
    tokenizer = train_tokenizer(TokenizerSettings(vocabulary=128), texts)
    train, validation = (open_store(Path(folder), corpus, split, tokenizer) for split in ("train", "validation"))
    return train, validation, tokenizer


@pytest.mark.parametrize("pair", ["swap", "random"])
def test_pairs_of_patternless_text_give_nothing_away(stores, pair: str):
    found = leak_accuracy(*stores, ObjectiveSettings(pair=pair, length=64), pairs=3000)
    assert set(found) == {"leak_accuracy", "leak_accuracy_natural"}
    assert found["leak_accuracy_natural"] == pytest.approx(0.5, abs=0.05)
    assert found["leak_accuracy"] == pytest.approx(0.5, abs=0.05)


def test_a_builder_that_leaks_is_found_out(stores, monkeypatch: pytest.MonkeyPatch):
    honest = leaks.drawn_pairs

    def leaky(store, objective, count):
        spans = honest(store, objective, count)
        return replace(spans, first_length=np.maximum(spans.first_length - 2 * spans.labels, 1))

    monkeypatch.setattr(leaks, "drawn_pairs", leaky)
    found = leak_accuracy(*stores, ObjectiveSettings(length=64), pairs=3000)
    assert found["leak_accuracy"] > 0.8
    assert found["leak_accuracy_natural"] == pytest.approx(0.5, abs=0.05)


def test_the_same_number_twice_and_none_without_pairs(stores):
    objective = ObjectiveSettings(length=64)
    assert leak_accuracy(*stores, objective, pairs=500) == leak_accuracy(*stores, objective, pairs=500)
    assert leak_accuracy(*stores, replace(objective, pair="none")) == {}
