"""Corpora: unlabelled documents, each a list of sentences, in a train and a validation split.

In: a file, a glob, or a folder with train and validation files (files.py says which kinds). Out: a ``Corpus`` that reads its
files again for every pass and holds one document at a time. Where there is no validation file, documents are held out by their
content, so that the choice is the same on every machine and equal documents stay on one side. A task's texts make a corpus too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tofro.progress import Progress
from tofro.text.cache import cache_folder
from tofro.text.documents import Document, Reading, Source, SourceDocuments
from tofro.text.files import find_files, open_file, stem_of
from tofro.text.fingerprint import fingerprint_path, hash_json
from tofro.text.sentences import splitter_version
from tofro.text.settings import CorpusSettings, word_source
from tofro.text.task import Task

GENERIC_NAME = "text"  # conf/corpus/text.yaml; the file's own name says more in a run folder


@dataclass(frozen=True)
class Corpus:
    """Documents by split. ``fingerprint`` is a sha256 of the content and of how it is cut into sentences and splits.

    ``words`` says where whole words come from, ``tokenizer`` or ``segmenter``; it is no part of the content. ``unit`` is what
    the progress of reading is counted in.
    """

    name: str
    fingerprint: str
    splits: Mapping[str, SourceDocuments | Iterable[Document]]
    notes: tuple[str, ...] = ()
    words: str = "tokenizer"
    unit: str = "documents"

    def documents(self, split: str, reading: Reading | None = None) -> Iterator[Document]:
        """Iterate over the documents of ``train`` or ``validation``, always in the same order; ``reading`` is kept up to date."""
        assert split in self.splits, split
        documents = self.splits[split]
        return documents.read(reading or Reading()) if isinstance(documents, SourceDocuments) else iter(documents)


def read_corpus(settings: CorpusSettings, progress: Progress | None = None) -> Corpus:
    """Return the corpus that ``settings.path`` names. Raises ValueError for a missing path, an empty file or a wrong encoding.

    Every reader of a corpus or task takes ``progress``; this one has nothing to tell, since documents are read as they are used.
    """
    if settings.path is None:
        raise ValueError("corpus.path is not set: name a text file, or a folder with train.txt and validation.txt (.gz allowed)")
    train, validation = find_files(settings.path)
    contents = [_content(files) for files in (train, validation) if files]
    name = settings.name if settings.name != GENERIC_NAME else stem_of(Path(settings.path).expanduser())
    sources = [tuple(open_file(file, settings.text) for file in files) for files in (train, validation)]
    return corpus_of(settings, name, contents, sources[0], sources[1])


def corpus_of(
    settings: CorpusSettings,
    name: str,
    contents: list[str],
    train: tuple[Source, ...],
    validation: tuple[Source, ...],
    unit: str = "bytes",
) -> Corpus:
    """Return the corpus of some sources; without any for validation, documents of train are held out by content.

    ``contents`` are the fingerprints of what the sources hold.
    """
    whole = SourceDocuments(train, settings.unit, settings.language)
    if validation:
        splits = {"train": whole, "validation": dataclasses.replace(whole, sources=validation)}
        for documents in splits.values():
            _require_text(documents)
    else:
        carved = dataclasses.replace(whole, cut=_find_cut(whole, settings.validation_share))
        splits = {part: dataclasses.replace(carved, part=part) for part in ("train", "validation")}
    read_as = [settings.unit, settings.language, splitter_version()] if settings.unit == "paragraph" else [settings.unit]
    read_as += [settings.text] if settings.text != "text" else []
    held_out = None if validation else settings.validation_share
    words = word_source(settings.words, settings.language)
    return Corpus(name, hash_json([contents, read_as, held_out]), splits, words=words, unit=unit)


def corpus_of_task(task: Task, settings: CorpusSettings) -> Corpus:
    """Return the training and validation texts of a task as a corpus without labels: a document for each example.

    A text, or each text of a pair, is a sentence of its document. Of ``settings`` only the language counts, and where words come
    from; the test split is left out.
    """
    splits = {
        split: [[text for text in (example.text_a, example.text_b) if text] for example in task.splits[split]]
        for split in ("train", "validation")
    }
    words = word_source(settings.words, settings.language)
    return Corpus(f"{task.name}-texts", hash_json(["texts", task.fingerprint]), splits, words=words)


def _content(files: list[Path]) -> str:
    hashes = [fingerprint_path(file, cache_folder()) for file in files]
    return hashes[0] if len(hashes) == 1 else hash_json(hashes)


def _require_text(documents: SourceDocuments) -> None:
    for _ in documents.read(Reading()):
        return
    places = ", ".join(map(str, documents.sources[:3])) + (", ..." if len(documents.sources) > 3 else "")
    raise ValueError(f"{places}: the corpus is empty: no line holds text")


def _find_cut(documents: SourceDocuments, held_out: float) -> float:
    """Return the cut that holds out that share of the documents and leaves neither side empty.

    As soon as one document is seen on each side the share itself is the cut; only a small file is read to its end.
    """
    lowest, highest = 1.0, 0.0
    _require_text(documents)
    for _, share in documents.shares(Reading()):
        lowest, highest = min(lowest, share), max(highest, share)
        if lowest < held_out <= highest:
            return held_out
    if lowest == highest:
        raise ValueError(
            f"{documents.sources[0]}: a single document (or equal ones) leaves none to hold out for validation; put a blank line "
            "between documents, or give corpus.path a folder with train.txt and validation.txt"
        )
    return highest if highest < held_out else math.nextafter(lowest, 1.0)
