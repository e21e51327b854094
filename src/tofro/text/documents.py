"""Documents as they are read: lists of sentences, one in memory at a time, and what is told about the reading.

In: sources of raw documents (files.py, hub.py) and the rule by which their lines become sentences. Out: :class:`Document` after
document, always in the same order. A document that memory should not hold is handed on in parts, which count as documents of
their own but stay on one side of a held-out split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tofro.text.fingerprint import share_of
from tofro.text.sentences import split_sentences

Document = list[str]

LONGEST_LINE = 1 << 18  # characters of a line; a longer one comes in parts
LONGEST_DOCUMENT = 1 << 24  # characters of a document; a longer one comes in parts
SENTENCE_COST = 64  # what a sentence weighs beside its characters, so that many short ones do not fill the memory


@dataclass
class Reading:
    """What one pass over documents has met so far. The reader fills it in."""

    done: int = 0  # in the corpus' own unit: bytes of files, or documents
    total: int | None = None
    cut_lines: int = 0  # longer than LONGEST_LINE
    cut_documents: int = 0  # longer than LONGEST_DOCUMENT
    empty_documents: int = 0  # rows without text


@dataclass(frozen=True)
class Raw:
    """A document as it is written: its lines, none empty, and whether they may be split into sentences further."""

    lines: Iterable[str]
    split: bool = True


class Source(Protocol):
    """Where raw documents come from: a file, or a split of a dataset."""

    def __str__(self) -> str:
        """Name the source in messages."""

    def size(self) -> int:
        """Return how much there is to read, in the unit of ``reading.done``."""

    def documents(self, reading: Reading) -> Iterator[Raw]:
        """Yield raw documents. The lines of one are read before the next is asked for."""


@dataclass(frozen=True)
class SourceDocuments:
    """The documents of sources, read afresh by every pass; ``part`` keeps one side of carved ones.

    ``unit`` and ``language`` say how lines become sentences. ``cut`` is the share below which a document is held out; None
    keeps them all.
    """

    sources: tuple[Source, ...]
    unit: str
    language: str
    cut: float | None = None
    part: str = "train"

    def read(self, reading: Reading) -> Iterator[Document]:
        """Yield the documents of this side."""
        reading.total = sum(source.size() for source in self.sources)
        for document, share in self.shares(reading):
            if self.cut is None or (share < self.cut) == (self.part == "validation"):
                yield document

    def shares(self, reading: Reading) -> Iterator[tuple[Document, float]]:
        """Yield all documents with the number in [0, 1) that decides who is held out; parts of one document share it."""
        for source in self.sources:
            end = reading.done + source.size()
            for raw in source.documents(reading):
                share = None
                for document in _in_parts(self._sentences(raw), reading):
                    share = document_share(document) if share is None else share
                    yield document, share
                reading.empty_documents += share is None
            reading.done = end

    def _sentences(self, raw: Raw) -> Iterator[str]:
        if self.unit == "sentence" or not raw.split:
            yield from raw.lines
            return
        for line in raw.lines:
            yield from split_sentences(line, self.language)


def document_share(document: Document) -> float:
    """Return the document's place in [0, 1), by its content."""
    return share_of("\n".join(document))


def cut_line(line: str, reading: Reading) -> Iterator[str]:
    """Yield a stripped line, or its parts of at most :data:`LONGEST_LINE` characters, cut at spaces where it has any."""
    if len(line) <= LONGEST_LINE:
        yield line
        return
    reading.cut_lines += 1
    while line:
        end = len(line)
        if end > LONGEST_LINE:
            end = line.rfind(" ", LONGEST_LINE // 2, LONGEST_LINE) + 1 or LONGEST_LINE
        if part := line[:end].strip():
            yield part
        line = line[end:]


def _in_parts(sentences: Iterable[str], reading: Reading) -> Iterator[Document]:
    document: Document = []
    size, parts = 0, 0
    for sentence in sentences:
        document.append(sentence)
        size += len(sentence) + SENTENCE_COST
        if size >= LONGEST_DOCUMENT:
            yield document
            document, size, parts = [], 0, parts + 1
    if document:
        yield document
    reading.cut_documents += parts + bool(document) > 1
