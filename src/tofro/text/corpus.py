"""Corpora: unlabelled documents, each a list of sentences, in a train and a validation split.

In: a text file, or a folder with train and validation files, one sentence or paragraph a line, a blank line between documents,
plain or gzip. Out: a ``Corpus`` that reads its files again for every pass and holds one document at a time. Where there is no
validation file, documents are held out by their content, so that the choice is the same on every machine and equal documents
stay on one side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tofro.progress import Progress
from tofro.text.cache import cache_folder
from tofro.text.fingerprint import fingerprint_path, hash_json, share_of
from tofro.text.lines import read_lines, require_file
from tofro.text.sentences import split_sentences, splitter_version
from tofro.text.settings import CorpusSettings, word_source

Document = list[str]
GENERIC_NAME = "text"  # conf/corpus/text.yaml; the file's own name says more in a run folder
_SUFFIXES = (".txt", ".txt.gz")
_VALIDATION_NAMES = ("validation", "valid", "val", "dev")


@dataclass(frozen=True)
class Corpus:
    """Documents by split. ``fingerprint`` is a sha256 of the content and of how it is cut into sentences and splits.

    ``words`` says where whole words come from, ``tokenizer`` or ``segmenter``; it is no part of the content.
    """

    name: str
    fingerprint: str
    splits: Mapping[str, Iterable[Document]]
    notes: tuple[str, ...] = ()
    words: str = "tokenizer"

    def documents(self, split: str) -> Iterator[Document]:
        """Iterate over the documents of ``train`` or ``validation``, always in the same order."""
        assert split in self.splits, split
        return iter(self.splits[split])


@dataclass(frozen=True)
class FileDocuments:
    """The documents of one file, read afresh by every iteration; ``part`` keeps one side of a carved file.

    ``cut`` is the share below which a document is held out; None keeps the whole file.
    """

    path: Path
    unit: str
    language: str
    cut: float | None = None
    part: str = "train"

    def __iter__(self) -> Iterator[Document]:
        for document in self._all():
            if self.cut is None or (_document_share(document) < self.cut) == (self.part == "validation"):
                yield document

    def _all(self) -> Iterator[Document]:
        document: Document = []
        for number, line in read_lines(self.path):
            if "\0" in line:
                raise ValueError(
                    f"{self.path}:{number}: a NUL character; the file is UTF-16 or binary, plain UTF-8 text was expected"
                )
            line = line.strip()
            if not line:
                if document:
                    yield document
                document = []
            elif self.unit == "paragraph":
                document.extend(split_sentences(line, self.language))
            else:
                document.append(line)
        if document:
            yield document


def read_corpus(settings: CorpusSettings, progress: Progress | None = None) -> Corpus:
    """Return the corpus that ``settings.path`` names. Raises ValueError for a missing path, an empty file or a wrong encoding.

    Every reader of a corpus or task takes ``progress``; this one has nothing to tell, since documents are read as they are used.
    """
    if settings.path is None:
        raise ValueError("corpus.path is not set: name a text file, or a folder with train.txt and validation.txt (.gz allowed)")
    path = Path(settings.path).expanduser()
    train, validation = _find_files(path)
    if validation is None:
        cut = _find_cut(FileDocuments(train, settings.unit, settings.language), settings.validation_share)
        splits = {part: FileDocuments(train, settings.unit, settings.language, cut, part) for part in ("train", "validation")}
    else:
        splits = {
            "train": FileDocuments(train, settings.unit, settings.language),
            "validation": FileDocuments(validation, settings.unit, settings.language),
        }
        for documents in splits.values():
            _first_document(documents)
    read_as = [settings.unit, settings.language, splitter_version()] if settings.unit == "paragraph" else [settings.unit]
    contents = [fingerprint_path(file, cache_folder()) for file in (train, validation) if file is not None]
    held_out = settings.validation_share if validation is None else None
    name = settings.name if settings.name != GENERIC_NAME else stem_of(path)
    words = word_source(settings.words, settings.language)
    return Corpus(name, hash_json([contents, read_as, held_out]), splits, words=words)


def stem_of(path: Path) -> str:
    """Return a folder's name, or a file's name without its endings; for a split in a folder, the folder's name."""
    path = path.absolute()
    if path.is_dir():
        return path.name
    stem = path.name.removesuffix(".gz")
    stem = stem[: stem.rfind(".")] if "." in stem[1:] else stem
    return path.parent.name if stem in ("train", "test", *_VALIDATION_NAMES) and path.parent.name else stem


def _find_files(path: Path) -> tuple[Path, Path | None]:
    """Return the train file and, where there is one, the validation file."""
    if not path.is_dir():
        require_file(path, "corpus.path")
        if not path.name.lower().endswith(_SUFFIXES):
            raise ValueError(f"corpus.path: {path} ends in neither .txt nor .txt.gz; a corpus is plain text, one sentence a line")
        return path, None
    train = _only(path, ("train",))
    if train is None:
        names = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
        raise ValueError(f"corpus.path: the folder {path} has no train.txt or train.txt.gz; it holds {names}")
    return train, _only(path, _VALIDATION_NAMES)


def _only(folder: Path, stems: tuple[str, ...]) -> Path | None:
    found = [file for stem in stems for suffix in _SUFFIXES if (file := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"corpus.path: {folder} has both {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def _first_document(documents: FileDocuments) -> Document:
    for document in documents:
        return document
    raise ValueError(f"{documents.path}: the corpus is empty: no line holds text")


def _find_cut(documents: FileDocuments, share: float) -> float:
    """Return the cut that holds out ``share`` of the documents and leaves neither side empty.

    As soon as one document is seen on each side the share itself is the cut; only a small file is read to its end.
    """
    lowest, highest = 1.0, 0.0
    _first_document(documents)
    for document in documents:
        value = _document_share(document)
        lowest, highest = min(lowest, value), max(highest, value)
        if lowest < share <= highest:
            return share
    if lowest == highest:
        raise ValueError(
            f"{documents.path}: a single document (or equal ones) leaves none to hold out for validation; put a blank line "
            "between documents, or give corpus.path a folder with train.txt and validation.txt"
        )
    return highest if highest < share else math.nextafter(lowest, 1.0)


def _document_share(document: Document) -> float:
    return share_of("\n".join(document))
