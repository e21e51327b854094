"""A small written world for batches: documents of short and long sentences, a tokenizer, a store."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import TokenStore, open_store
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

WORDS = [
    "river",
    "stone",
    "garden",
    "letter",
    "window",
    "station",
    "market",
    "bridge",
    "doctor",
    "teacher",
    "island",
    "harbour",
    "machine",
    "forest",
    "engine",
]


class Corpus:
    """Documents in a list, named by their content."""

    words = "tokenizer"

    def __init__(self, documents: list[list[str]], name: str = "written") -> None:
        self.name, self.content, self.fingerprint = name, documents, str(hash(str(documents)))

    def documents(self, split: str, reading: object = None) -> Iterator[list[str]]:
        yield from self.content


def write(documents: int, seed: int = 3) -> list[list[str]]:
    """Write documents of 1 to 30 sentences of 1 to 40 words, some with commas, the same for every call."""
    draw = random.Random(seed)

    def sentence() -> str:
        length = draw.choice((1, 3, 5, 8, 12, 20, 40))
        words = [draw.choice(WORDS) + draw.choice(("", "", "s", "ing", ",")) for _ in range(length)]
        return " ".join(words).rstrip(",") + draw.choice("..!?")

    return [[sentence() for _ in range(draw.randint(1, 30))] for _ in range(documents)]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=128), (" ".join(document) for document in write(20)))


@pytest.fixture(scope="session")
def store(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return open_store(tmp_path_factory.mktemp("stores"), Corpus(write(400)), "train", tokenizer)
