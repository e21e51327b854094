"""The built-in corpus and tasks: English prose from the documentation strings that every installation of tofro carries.

In: settings. Out: a ``Corpus`` of documentation strings and help topics, and the tasks ``pydoc_kind``, ``pydoc_package`` and
``pydoc_match``. The text is read from disk once per set of versions and kept in the cache folder. Corpus and tasks draw on the
same strings, as an unlabelled domain corpus does; only the labels are new to a model pretrained on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tofro.progress import Progress
from tofro.text.cache import cache_folder
from tofro.text.corpus import Corpus
from tofro.text.documents import Document
from tofro.text.fingerprint import hash_json, share_of
from tofro.text.pydoc_extract import Module, extract, fingerprint_pydoc, missing_packages
from tofro.text.pydoc_tasks import build_kind, build_match, build_package
from tofro.text.settings import CorpusSettings, TaskSettings, word_source
from tofro.text.task import Example, Task, fewer_rows, read_besides, resolve_metric, without_leaks

__all__ = ["fingerprint_pydoc", "read_pydoc_corpus", "read_pydoc_kind", "read_pydoc_match", "read_pydoc_package"]

_LEAST_SENTENCES = 2  # of a document; one sentence has no neighbour
_built: dict[str, dict[str, list[Example]]] = {}  # a study reads the same tasks for every run, in one process


def read_pydoc_corpus(settings: CorpusSettings, progress: Progress | None = None) -> Corpus:
    """Return the built-in corpus; documents are held out by the hash of their module's path.

    A documentation string of two sentences or more is a document, and so are a module's one-sentence strings together. A whole
    module would be no discourse: which of two neighbouring strings comes first has no answer, so order could not be learnt.

    A sentence occurs once: repeats are boilerplate, and this way none is both trained on and held out. ``progress`` is told
    (files done, files in all) while the text is read for the first time.
    """
    if settings.path is not None:
        raise ValueError("corpus.path has no use with the built-in corpus; choose corpus=text to read a file")
    splits: dict[str, list[Document]] = {"train": [], "validation": []}
    seen: set[str] = set()
    modules = extract(cache_folder(), progress)
    lowest = min((share_of("pydoc corpus", module.name) for module in modules), default=0.0)
    for module in modules:
        position = share_of("pydoc corpus", module.name)
        split = "validation" if position < settings.validation_share or position == lowest else "train"
        splits[split] += [document for document in _documents(module, seen) if len(document) >= _LEAST_SENTENCES]
    fingerprint = hash_json([fingerprint_pydoc(), settings.validation_share])
    return Corpus(settings.name, fingerprint, splits, _missing_notes(), word_source(settings.words, settings.language))


def read_pydoc_kind(settings: TaskSettings, progress: Progress | None = None) -> Task:
    """Return the task: does a string belong to a module, a class, a method or a function?"""
    return _read(settings, build_kind, progress)


def read_pydoc_package(settings: TaskSettings, progress: Progress | None = None) -> Task:
    """Return the task: which library does a string come from, its names masked?"""
    return _read(settings, build_package, progress)


def read_pydoc_match(settings: TaskSettings, progress: Progress | None = None) -> Task:
    """Return the pair task: does a signature belong to a string?"""
    return _read(settings, build_match, progress)


def _read(
    settings: TaskSettings, build: Callable[[Sequence[Module]], dict[str, list[Example]]], progress: Progress | None
) -> Task:
    if settings.path is not None:
        raise ValueError("task.path has no use with a built-in task; choose task=file to read a file")
    made_from = hash_json([fingerprint_pydoc(), build.__name__])
    if made_from not in _built:
        _built[made_from] = build(extract(cache_folder(), progress))
    splits = dict(_built[made_from])
    counts = Counter(str(example.label) for example in splits["train"])
    labels = tuple(sorted(counts))
    notes: list[str] = []
    splits = fewer_rows(without_leaks(splits, settings, notes), settings, labels)
    metric = resolve_metric(settings.metric, "classification", labels)
    fingerprint = hash_json([made_from, settings.train_rows, *read_besides(settings)])
    pair = splits["train"][0].text_b is not None
    return Task(settings.name, "classification", pair, labels, metric, splits, fingerprint, (*_missing_notes(), *notes))


def _documents(module: Module, seen: set[str]) -> list[Document]:
    """Return the documents of a module, of sentences that no module before it held, and remember them."""
    documents: list[Document] = []
    single: Document = []
    for entry in module.entries:
        document = []
        for paragraph in [*entry.paragraphs, *entry.details]:
            for sentence in paragraph:
                if sentence not in seen:
                    seen.add(sentence)
                    document.append(sentence)
        if len(document) == 1:
            single += document
        elif document:
            documents.append(document)
    return [*documents, single] if single else documents


def _missing_notes() -> tuple[str, ...]:
    missing = missing_packages()
    return (f"documentation strings of {', '.join(missing)} are left out: not installed",) if missing else ()
