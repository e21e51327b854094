"""The leak rule on real corpora, where they are beside the checkout."""

from __future__ import annotations

import gzip
import itertools
import random
from pathlib import Path

import pytest

from tests.batches.conftest import Corpus
from tests.batches.test_pairs import accuracy
from tofro.batches.leaks import drawn_pairs, untouched_pairs
from tofro.batches.settings import ObjectiveSettings
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import open_store
from tofro.tokens.training import train_tokenizer

PAIRS = 120_000  # at a third of it the noise of an accuracy is itself nearly a point


def read(path: Path, lines: int) -> list[list[str]]:
    documents: list[list[str]] = [[]]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in itertools.islice(file, lines):
            if line.strip():
                documents[-1].append(line.strip())
            elif documents[-1]:
                documents.append([])
    return [document for document in documents if document]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enwiki_sample", "zhwiki_sample", "eltec_eng_novels"])
def test_pairs_say_no_more_than_untouched_text(shared: Path, tmp_path: Path, name: str) -> None:
    """Within a point of the same classifier on whole consecutive segments, and at chance where the sentences are shuffled.

    Shuffling takes away what the text itself tells (an author's commas tell `random` pairs of few novels apart); what is left
    would be the builder's doing.
    """
    documents = read(shared / "corpora" / name / "train.txt.gz", 30_000)
    tokenizer = train_tokenizer(TokenizerSettings(vocabulary=8192, megabytes=2), (" ".join(document) for document in documents))
    sentences = [sentence for document in documents for sentence in document]
    random.Random(0).shuffle(sentences)
    take = iter(sentences)
    shuffled = [[next(take) for _ in document] for document in documents]
    corpora = [Corpus(documents, name), Corpus(shuffled, f"{name}-shuffled")]
    for corpus in corpora:
        corpus.words = "segmenter" if name.startswith("zh") else "tokenizer"
    store, mixed = (open_store(tmp_path, corpus, "train", tokenizer) for corpus in corpora)
    for pair, unit, length in itertools.product(("swap", "random"), ("segment", "sentence"), (64, 128)):
        objective = ObjectiveSettings(pair=pair, unit=unit, length=length)
        chance = accuracy(mixed, tokenizer, drawn_pairs(mixed, objective, PAIRS))
        assert abs(chance - 0.5) <= 0.015, (pair, unit, length, chance)
        drawn = accuracy(store, tokenizer, drawn_pairs(store, objective, PAIRS))
        untouched = accuracy(store, tokenizer, untouched_pairs(store, objective, PAIRS))
        if pair == "swap" or store.documents > 100:  # among few novels the partner's author decides, and the yardstick wavers
            yardstick = max(untouched, 0.5)  # below chance it is noise: these pairs come from few documents
            assert drawn <= yardstick + 0.01, (pair, unit, length, drawn, untouched)
