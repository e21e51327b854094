"""The token store: round trip, reuse, damage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tofro.tokens import building
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import TokenStore, open_store
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

DOCUMENTS = [["One sentence here.", "Then another one."], ["", "   "], ["Alone."], ["First of three.", "", "Third of three."]]


class Corpus:
    """A corpus of lists that counts how often it is read."""

    def __init__(self, documents: list[list[str]], fingerprint: str = "f") -> None:
        self.name, self.fingerprint, self.words = "toy", fingerprint, "tokenizer"
        self.content, self.reads = documents, 0

    def documents(self, split: str, reading: object = None) -> Iterator[list[str]]:
        self.reads += 1
        yield from self.content


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=128, min_frequency=1), [" ".join(d) for d in DOCUMENTS] * 2)


@pytest.mark.parametrize("block", [1, 40, 4096])
def test_store_holds_the_tokens_of_every_sentence(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(building, "BLOCK", block)
    calls: list[int] = []
    store = open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer, lambda done, total: calls.append(done))
    kept = [[sentence for sentence in document if sentence.strip()] for document in DOCUMENTS]
    kept = [document for document in kept if document]
    place = 0
    for number, document in enumerate(kept):
        assert store.document_offsets[number + 1] - store.document_offsets[number] == len(document)
        for encoded in tokenizer.encode(document):
            start, end = store.sentence_offsets[place : place + 2]
            assert np.array_equal(store.ids[start:end], encoded.ids)
            assert np.array_equal(np.cumsum(store.word_starts[start:end]) - 1, encoded.word_ids)
            place += 1
    assert (store.sentences, store.documents) == (place, 3)
    assert (store.meta["dropped_sentences"], store.meta["dropped_documents"]) == (3, 1)
    assert calls[-1] == len(DOCUMENTS)
    assert store.ids.dtype == np.uint16


def test_store_is_built_once_and_keyed_by_content(tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus = Corpus(DOCUMENTS)
    first = open_store(tmp_path, corpus, "train", tokenizer)
    again = open_store(tmp_path, corpus, "train", tokenizer)
    assert corpus.reads == 1
    assert again.folder == first.folder
    assert open_store(tmp_path, Corpus(DOCUMENTS, "other"), "train", tokenizer).folder != first.folder
    assert open_store(tmp_path, corpus, "validation", tokenizer).folder != first.folder
    cased = train_tokenizer(TokenizerSettings(vocabulary=128, lowercase=False), [" ".join(d) for d in DOCUMENTS])
    assert open_store(tmp_path, corpus, "train", cased).folder != first.folder
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".building")]


def test_building_twice_gives_the_same_bytes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    one = open_store(tmp_path / "a", Corpus(DOCUMENTS), "train", tokenizer).folder
    two = open_store(tmp_path / "b", Corpus(DOCUMENTS), "train", tokenizer).folder
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


@pytest.mark.parametrize("name", ["ids", "word_starts", "sentence_offsets", "document_offsets"])
def test_a_damaged_store_is_named(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    folder = open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer).folder
    path = folder / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{name}\.bin: a damaged token store .* delete the folder"):
        open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)


def test_a_store_without_meta_or_with_another_ones_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer).folder
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "corpus": "another"}))
    with pytest.raises(ValueError, match="made from something else"):
        open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)
    (folder / "meta.json").write_text("")
    with pytest.raises(ValueError, match="no readable meta"):
        open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)


def test_a_refused_corpus_leaves_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    class Broken(Corpus):
        def documents(self, split: str, reading: object = None) -> Iterator[list[str]]:
            yield from DOCUMENTS
            raise ValueError("c.txt: line 3")

    with pytest.raises(ValueError, match="line 3"):
        open_store(tmp_path, Broken([]), "train", tokenizer)
    with pytest.raises(ValueError, match="corpus toy: the train split holds no text"):
        open_store(tmp_path, Corpus([[""]]), "train", tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_tokenizer_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)
    store.require(tokenizer)
    other = train_tokenizer(TokenizerSettings(vocabulary=128, lowercase=False), [" ".join(d) for d in DOCUMENTS])
    with pytest.raises(ValueError, match="another tokenizer"):
        store.require(other)


def test_what_is_missing_is_told(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)
    assert store.notes == [
        "toy (train): 1 documents without a token were dropped",
        "toy (train): 3 sentences without a token were dropped",
    ]


def test_a_store_travels_by_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = open_store(tmp_path, Corpus(DOCUMENTS), "train", tokenizer)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert isinstance(again, TokenStore)
    assert np.array_equal(again.ids, store.ids)
