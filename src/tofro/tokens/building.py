"""Building a token store: in bounded memory, on all cores, and with nothing lost to a kill.

In: a corpus' documents, a tokenizer and the folder that is to hold the store. Out: that folder, whole or absent. The files grow
in a folder beside it, ``.<name>.building``. Every :data:`SAVE_EVERY` characters they are synced and ``progress.json`` says how
much of them counts; a build that was killed goes back to that, skips the documents that are done and goes on, so its bytes are
those of an undisturbed build. One process builds a store; others that want it wait for the lock and find it there. What the
files hold stands in ``store.py``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from tofro.progress import Progress
from tofro.text.documents import Reading
from tofro.tokens.pieces import Encoded
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.workers import encode_blocks

FILES = ("ids", "word_starts", "sentence_offsets", "document_offsets")
COUNTS = ("tokens", "sentences", "documents", "dropped_sentences", "dropped_documents")
BLOCK = 1 << 20  # characters tokenised at a time
SAVE_EVERY = 1 << 25  # characters between two savings: a few seconds' work


class NoText(ValueError):
    """The documents hold no token."""


def build(
    target: Path,
    documents: Iterator[list[str]],
    tokenizer: Tokenizer,
    words: str,
    meta: dict[str, Any],
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> None:
    """Make the store ``target`` of ``documents``; where another process makes it, wait for that instead.

    ``meta`` is what the store is made from; it goes into meta.json with the counts, and a build is resumed only under an equal
    one. ``reading`` is filled in by who reads the documents. Raises :class:`NoText`, and ValueError as reading does; a refused
    corpus leaves nothing behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.building")
    lock = _take_turn(scratch, target)
    if lock is None:
        return
    with lock:
        try:
            if not (scratch / "meta.json").exists():
                _fill(scratch, documents, tokenizer, words, meta, reading or Reading(), progress)
        except ValueError:
            shutil.rmtree(scratch)
            raise
        (scratch / "progress.json").unlink(missing_ok=True)
        scratch.rename(target)
        sync_folder(target.parent)


def _take_turn(scratch: Path, target: Path) -> IO[str] | None:
    """Return the open lock of the folder ``scratch``, waiting for other processes; None once ``target`` is there."""
    while not target.exists():
        scratch.mkdir(exist_ok=True)
        try:
            lock = (scratch / ".lock").open("w")
        except FileNotFoundError:  # renamed or given up by another process since the line above
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _same_file(scratch / ".lock", lock.fileno()):
            if not target.exists():
                return lock
            shutil.rmtree(scratch)  # made a moment after another process had finished
        lock.close()
    return None


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _fill(
    scratch: Path,
    documents: Iterator[list[str]],
    tokenizer: Tokenizer,
    words: str,
    meta: dict[str, Any],
    reading: Reading,
    progress: Progress | None,
) -> None:
    dtype = "uint16" if tokenizer.vocabulary <= 1 << 16 else "uint32"
    with ExitStack() as stack:
        writer = _Writer(stack, scratch, {**meta, "dtype": dtype})
        rest = islice(documents, writer.done, None)
        encoded = stack.enter_context(closing(encode_blocks(_blocks(rest), tokenizer, words)))
        for block, tokens in encoded:
            writer.add(block, tokens)
            if progress is not None:
                progress(reading.done or writer.done, reading.total)
        if not writer.counts["tokens"]:
            raise NoText
        writer.save()
    counts = {**writer.counts, "cut_lines": reading.cut_lines, "cut_documents": reading.cut_documents}
    counts["dropped_documents"] += reading.empty_documents
    write_synced(scratch / "meta.json", {**meta, "dtype": dtype, **counts})


@dataclass
class _Block:
    """Whole documents: their sentences as text, and how many each document has."""

    sentences: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    text: str = ""


def _blocks(documents: Iterable[list[str]]) -> Iterator[_Block]:
    """Gather documents into blocks of about :data:`BLOCK` characters."""
    block, size = _Block(), 0
    for document in documents:
        block.sentences += document
        block.sizes.append(len(document))
        size += sum(map(len, document)) + len(document)
        if size >= BLOCK:
            yield _sealed(block)
            block, size = _Block(), 0
    if block.sizes:
        yield _sealed(block)


def _sealed(block: _Block) -> _Block:
    """Return a block with its text in place of its sentences; to a tokenizer a line break inside a sentence is a space."""
    text = "".join(f"{sentence}\n" for sentence in block.sentences)
    if text.count("\n") != len(block.sentences):
        text = "".join(sentence.replace("\n", " ") + "\n" for sentence in block.sentences)
    return _Block([], block.sizes, text)


class _Writer:
    """Appends blocks to the files of a store, counts, and remembers how much is safe."""

    def __init__(self, stack: ExitStack, folder: Path, made_from: dict[str, Any]) -> None:
        """Open the files; go on where an earlier build of the same store was saved."""
        self.folder, self.made_from, self.dtype = folder, made_from, made_from["dtype"]
        saved = _read_saved(folder, made_from)
        self.counts: dict[str, int] = saved["counts"] if saved else dict.fromkeys(COUNTS, 0)
        self.done: int = saved["done"] if saved else 0  # documents read
        self.unsaved = 0
        self.files: dict[str, BinaryIO] = {}
        for name in FILES:
            self.files[name] = stack.enter_context((folder / f"{name}.bin").open("r+b" if saved else "w+b"))
            self.files[name].seek(saved["sizes"][name] if saved else 0)  # what lies behind is written over by its equal
        if not saved:
            for name in ("sentence_offsets", "document_offsets"):
                self._append(name, np.zeros(1, dtype=np.int64))

    def add(self, block: _Block, encoded: Encoded) -> None:
        """Append a block; sentences without a token, and documents without a sentence, are dropped and counted."""
        kept = encoded.lengths > 0  # (sentences,)
        before = np.concatenate([[0], np.cumsum(kept)])
        ends = before[np.cumsum(block.sizes)]  # sentences kept up to each document's end
        sizes = np.diff(ends, prepend=0)
        self._append("ids", encoded.ids.astype(self.dtype))
        self._append("word_starts", encoded.word_starts)
        self._append("sentence_offsets", self.counts["tokens"] + np.cumsum(encoded.lengths)[kept])
        self._append("document_offsets", self.counts["sentences"] + ends[sizes > 0])
        self.counts["tokens"] += len(encoded.ids)
        self.counts["sentences"] += int(kept.sum())
        self.counts["documents"] += int((sizes > 0).sum())
        self.counts["dropped_sentences"] += int(len(kept) - kept.sum())
        self.counts["dropped_documents"] += int((sizes == 0).sum())
        self.done += len(block.sizes)
        self.unsaved += len(block.text)
        if self.unsaved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Make everything so far survive a kill or a power cut."""
        sizes = {}
        for name, file in self.files.items():
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
        saved = {"made_from": self.made_from, "done": self.done, "counts": self.counts, "sizes": sizes}
        write_synced(self.folder / "progress.json", saved)
        self.unsaved = 0

    def _append(self, name: str, values: np.ndarray) -> None:
        self.files[name].write(np.ascontiguousarray(values).data)


def _read_saved(folder: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Return what ``progress.json`` says, or None where there is nothing to go on from."""
    path = folder / "progress.json"
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = all((folder / f"{name}.bin").stat().st_size >= saved["sizes"][name] for name in FILES)
        if whole and saved["made_from"] == made_from:
            return saved
    except (OSError, ValueError, KeyError, TypeError):
        pass
    warnings.warn(f"{path}: an unfinished token store can't be gone on with; it is built from the start", stacklevel=2)
    return None


def write_synced(path: Path, data: Any) -> None:
    """Write JSON beside its place, sync and rename."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
