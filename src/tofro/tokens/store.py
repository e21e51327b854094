"""The token store: one split of a corpus as memory-mapped arrays on disk.

In: a corpus, a tokenizer and a folder for stores. Out: :class:`TokenStore`: token ids, word starts, and the offsets of
sentences and documents. A store is written once, in bounded memory, beside its final place and then renamed, so that it is
whole or absent; its name carries the fingerprints of what it was made from, so that it is never taken for another. It knows
nothing of special tokens, sequences or masks.

    meta.json              format, fingerprints and counts
    ids.bin                (N,) uint16, or uint32 where the vocabulary needs it
    word_starts.bin        (N,) bool
    sentence_offsets.bin   (S+1,) int64, where each sentence begins in N
    document_offsets.bin   (D+1,) int64, where each document begins in S
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from tofro.progress import Progress
from tofro.tokens.segmenter import words_made_by
from tofro.tokens.tokenizer import Tokenizer

FORMAT = 1
FILES = ("ids", "word_starts", "sentence_offsets", "document_offsets")
BLOCK = 4096  # sentences tokenised at a time
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

    def documents(self, split: Any) -> Iterator[list[str]]:
        """Yield the documents of a split, each a list of sentences."""


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
    """Return the store of ``split`` under ``folder``, built first where there is none.

    ``progress(documents done, None)`` is called after every block of sentences. Raises ValueError where the split holds no
    text, and where an existing store is damaged.
    """
    made_from = {"format": FORMAT, "corpus": corpus.fingerprint, "split": split, "tokenizer": tokenizer.fingerprint}
    made_from |= words_made_by(corpus.words)
    short = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    target = Path(folder) / f"{corpus.name}-{split}-{short}"
    if not target.exists():
        _build(target, corpus, split, tokenizer, made_from, progress)
    store = TokenStore(target)
    if {name: store.meta.get(name) for name in made_from} != made_from:
        raise ValueError(f"{target}: a token store made from something else; {ANEW}")
    return store


def _build(
    target: Path, corpus: Documents, split: str, tokenizer: Tokenizer, made_from: dict[str, Any], progress: Progress | None
) -> None:
    """Write the store beside ``target``, then rename it; another process that was first wins."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    scratch.mkdir()
    try:
        dtype = "uint16" if tokenizer.vocabulary <= 1 << 16 else "uint32"
        with ExitStack() as stack:
            files = {name: stack.enter_context(open(scratch / f"{name}.bin", "wb")) for name in FILES}
            writer = _Writer(files, dtype)
            for block in _blocks(corpus.documents(split)):
                writer.add(block, tokenizer, corpus.words)
                if progress is not None:
                    progress(writer.seen, None)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        if not writer.counts["tokens"]:
            raise ValueError(f"corpus {corpus.name}: the {split} split holds no text; check corpus.path")
        meta = {**made_from, "corpus_name": corpus.name, "dtype": dtype, **writer.counts}
        with open(scratch / "meta.json", "w", encoding="utf-8") as listing:
            json.dump(meta, listing, indent=2)
            listing.flush()
            os.fsync(listing.fileno())
        try:
            scratch.rename(target)
        except OSError:
            if not target.exists():
                raise
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _blocks(documents: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    """Gather documents into blocks of about :data:`BLOCK` sentences; a longer document is cut by the writer."""
    block: list[list[str]] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


class _Writer:
    """Appends documents to the files of a store and counts them."""

    def __init__(self, files: Mapping[str, BinaryIO], dtype: str) -> None:
        self.files, self.dtype = files, dtype
        self.counts = dict.fromkeys(("tokens", "sentences", "documents", "dropped_sentences", "dropped_documents"), 0)
        self.seen = 0
        for name in ("sentence_offsets", "document_offsets"):
            self._append(name, np.zeros(1, dtype=np.int64))

    def add(self, documents: list[list[str]], tokenizer: Tokenizer, words: str) -> None:
        """Append ``documents``; sentences without a token, and documents without a sentence, are dropped and counted."""
        sentences = [sentence for document in documents for sentence in document]
        cuts = range(0, len(sentences), BLOCK)
        lengths = [self._add_sentences(sentences[start : start + BLOCK], tokenizer, words) for start in cuts]
        kept = np.concatenate([*lengths, np.zeros(0, dtype=bool)])  # (sentences,) bool
        before = np.concatenate([[0], np.cumsum(kept)])
        ends = before[np.cumsum([len(document) for document in documents])]  # sentences kept up to each document's end
        sizes = np.diff(ends, prepend=0)
        self._append("document_offsets", self.counts["sentences"] + ends[sizes > 0])
        self.counts["sentences"] += int(kept.sum())
        self.counts["documents"] += int((sizes > 0).sum())
        self.counts["dropped_sentences"] += int(len(kept) - kept.sum())
        self.counts["dropped_documents"] += int((sizes == 0).sum())
        self.seen += len(documents)

    def _add_sentences(self, sentences: list[str], tokenizer: Tokenizer, words: str) -> np.ndarray:
        """Append the tokens of ``sentences``; return (sentences,) bool: those that have any."""
        flat = tokenizer.encode_flat(sentences, words)
        kept = np.diff(flat.offsets) > 0
        self._append("ids", flat.ids.astype(self.dtype))
        self._append("word_starts", flat.word_starts)
        self._append("sentence_offsets", self.counts["tokens"] + flat.offsets[1:][kept])
        self.counts["tokens"] += len(flat.ids)
        return kept

    def _append(self, name: str, values: np.ndarray) -> None:
        self.files[name].write(np.ascontiguousarray(values).tobytes())


def _sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
