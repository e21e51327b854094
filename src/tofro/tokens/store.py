"""The token store: one split of a corpus as memory-mapped arrays on disk.

In: a corpus, a tokenizer and a folder for stores. Out: :class:`TokenStore`: token ids, word starts, and the offsets of
sentences and documents. A store is whole or absent (building.py writes it); its name carries the fingerprints of what it was
made from, so that it is never taken for another. It knows nothing of special tokens, sequences or masks.

    meta.json              format, fingerprints and counts
    ids.bin                (N,) uint16, or uint32 where the vocabulary needs it
    word_starts.bin        (N,) bool
    sentence_offsets.bin   (S+1,) int64, where each sentence begins in N
    document_offsets.bin   (D+1,) int64, where each document begins in S
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tofro.progress import Progress
from tofro.text.documents import LONGEST_DOCUMENT, LONGEST_LINE, Reading
from tofro.tokens.building import NoText, build
from tofro.tokens.segmenter import words_made_by
from tofro.tokens.tokenizer import Tokenizer

FORMAT = 1
ANEW = "delete the folder to build it anew"


class Documents(Protocol):
    """What a store needs of a corpus."""

    @property
    def name(self) -> str:
        """Name in messages and folders."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""

    @property
    def words(self) -> str:
        """Where whole words come from: ``tokenizer`` or ``segmenter``."""

    def documents(self, split: Any, reading: Reading | None = None) -> Iterator[list[str]]:
        """Yield the documents of a split, each a list of sentences; ``reading`` is kept up to date."""


class TokenStore:
    """The tokens of one split, read from ``folder``.

    Raises ValueError where files are missing or have the wrong size.
    """

    def __init__(self, folder: Path | str) -> None:
        """Map the files of ``folder`` into memory."""
        self.folder = Path(folder)
        try:
            self.meta: dict[str, Any] = json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder}: a damaged token store (no readable meta.json); {ANEW}") from error
        tokens, sentences, documents = (int(self.meta[name]) for name in ("tokens", "sentences", "documents"))
        self.ids = self._map("ids", self.meta["dtype"], tokens)  # (N,)
        self.word_starts = self._map("word_starts", "bool", tokens)  # (N,)
        self.sentence_offsets = self._map("sentence_offsets", "int64", sentences + 1)  # (S+1,)
        self.document_offsets = self._map("document_offsets", "int64", documents + 1)  # (D+1,)
        if self.sentence_offsets[-1] != tokens or self.document_offsets[-1] != sentences:
            raise ValueError(f"{self.folder}: a damaged token store (offsets and tokens disagree); {ANEW}")

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Path]]:
        """Travel to another process by name, not by content."""
        return TokenStore, (self.folder,)

    @property
    def name(self) -> str:
        """Corpus and split, for messages."""
        return f"{self.meta['corpus_name']} ({self.meta['split']})"

    @property
    def notes(self) -> list[str]:
        """What of the text is not in the store as it was written, in words."""
        said = {
            "dropped_documents": "documents without a token were dropped",
            "dropped_sentences": "sentences without a token were dropped",
            "cut_lines": f"lines longer than {LONGEST_LINE:,} characters were cut into parts",
            "cut_documents": f"documents longer than {LONGEST_DOCUMENT:,} characters were cut into parts",
        }
        return [f"{self.name}: {self.meta[key]:,} {text}" for key, text in said.items() if self.meta.get(key)]

    def require(self, tokenizer: Tokenizer) -> None:
        """Raise ValueError unless the store's ids are those of ``tokenizer``."""
        if self.meta["tokenizer"] != tokenizer.fingerprint:
            raise ValueError(f"{self.folder}: the token store was made with another tokenizer; {ANEW}")

    @property
    def tokens(self) -> int:
        """Number of tokens N."""
        return len(self.ids)

    @property
    def sentences(self) -> int:
        """Number of sentences S."""
        return len(self.sentence_offsets) - 1

    @property
    def documents(self) -> int:
        """Number of documents D."""
        return len(self.document_offsets) - 1

    def _map(self, name: str, dtype: str, length: int) -> np.ndarray:
        path = self.folder / f"{name}.bin"
        size = path.stat().st_size if path.is_file() else -1
        expected = length * np.dtype(dtype).itemsize
        if size != expected:
            found = "is missing" if size < 0 else f"has {size} bytes where {expected} were written"
            raise ValueError(f"{path}: a damaged token store (the file {found}); {ANEW}")
        # A plain view of the map: indexing a np.memmap itself costs several times as much.
        return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))


def open_store(
    folder: Path | str, corpus: Documents, split: str, tokenizer: Tokenizer, progress: Progress | None = None
) -> TokenStore:
    """Return the store of ``split`` under ``folder``, built first where there is none (building.py).

    ``progress(done, total or None)`` is called after every block, in the corpus' own unit. Raises ValueError where the split
    holds no text, and where an existing store is damaged.
    """
    made_from = {"format": FORMAT, "corpus": corpus.fingerprint, "split": split, "tokenizer": tokenizer.fingerprint}
    made_from |= words_made_by(corpus.words)
    short = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    target = Path(folder) / f"{corpus.name}-{split}-{short}"
    if not target.exists():
        reading = Reading()
        documents = corpus.documents(split, reading)
        try:
            build(target, documents, tokenizer, corpus.words, {**made_from, "corpus_name": corpus.name}, reading, progress)
        except NoText:
            raise ValueError(f"corpus {corpus.name}: the {split} split holds no text; check corpus.path") from None
    store = TokenStore(target)
    if {name: store.meta.get(name) for name in made_from} != made_from:
        raise ValueError(f"{target}: a token store made from something else; {ANEW}")
    return store
