"""Tasks by name: a dataset of the Hugging Face hub (extra `hub`), or the same task from files of this machine.

In: settings, which name a dataset with its columns and splits, or a path. Out: a ``Task``, read as every other. A class number
comes out as the name that the dataset gives it. Without a network one error tells what to do instead. Left out: corpora (hub.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tofro.progress import Progress
from tofro.text.extras import first_line, hub_or_cache, need, open_saved
from tofro.text.files import stem_of
from tofro.text.hub import GENERIC_NAME, SAVED
from tofro.text.parquet import class_names, with_names
from tofro.text.reader import Row, Rows, Table
from tofro.text.settings import HubTaskSettings
from tofro.text.splits import find_splits
from tofro.text.task import Task, contents_of, task_of

ROWS = 256  # in memory at a time
SPLITS = ("train", "validation", "test")


class DatasetRows(Table):
    """The rows of a split of a dataset, each text in one piece: lists of strings joined, spans marked in it, as settings say."""

    def __init__(self, name: str, dataset: Any, settings: HubTaskSettings) -> None:
        super().__init__(name, settings.on_bad_row, "task.dataset")
        self.dataset = dataset
        self.join, self.spans = settings.join, settings.spans
        self.texts = (settings.text_a, settings.text_b)

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.dataset.column_names)

    def parse(self) -> Iterator[tuple[int, Row]]:
        """Yield (number, row)."""
        classes, number = class_names(self.dataset.features.to_dict()), 0
        for batch in self.dataset.with_format(None).iter(batch_size=ROWS):
            for values in zip(*batch.values(), strict=True):
                number += 1
                row = self._joined(with_names(dict(zip(batch, values, strict=True)), classes))
                try:
                    row = self._marked(row)
                except (TypeError, LookupError) as problem:
                    self.reject(number, f"{self.spans!r} marks no two spans of the text ({problem})")
                else:
                    yield number, row

    def _joined(self, row: Row) -> Row:
        if self.join is None:
            return row
        lists = {name: row[name] for name in self.texts if name in row and isinstance(row[name], list)}
        return row | {name: self.join.join(map(str, value)) for name, value in lists.items()}

    def _marked(self, row: Row) -> Row:
        text = self.texts[0]
        if self.spans is None or self.spans not in row or text is None:
            return row
        return row | {text: mark_spans(row[text], row[self.spans])}


def mark_spans(text: str, spans: Mapping[str, Any]) -> str:
    """Return ``text`` with its first span in brackets and the second between underscores. LookupError where one is not there."""
    cuts = []
    for number, marks in enumerate(("[]", "__"), 1):
        words, start = spans[f"span{number}_text"], spans[f"span{number}_index"]
        if not words or start < 0 or text[start : start + len(words)] != words:
            raise LookupError(f"{words!r} is not at {start}")
        cuts.append((start, start + len(words), marks))
    (_, end, _), (start, _, _) = sorted(cuts)
    if start < end:
        raise LookupError("they overlap")
    for start, end, marks in sorted(cuts, reverse=True):
        text = f"{text[:start]}{marks[0]}{text[start:end]}{marks[1]}{text[end:]}"
    return text


def read_hub_task(settings: HubTaskSettings, progress: Progress | None = None) -> Task:
    """Return the task in ``settings.path``, files or what ``save_to_disk`` wrote; without it, ``settings.dataset`` of the hub.

    Raises ValueError where neither is given, where a name can't be fetched, and for everything that can't be used.
    """
    if settings.path is not None:
        folder = Path(settings.path).expanduser()
        if any((folder / name).is_file() for name in SAVED):
            return _of_datasets(settings, _open_saved(folder, settings))
        files = find_splits(settings.path)
        tables = {split: [Rows(file, settings.on_bad_row) for file in each] for split, each in files.items()}
        return task_of(_with_columns(settings, tables["train"][0].columns()), _name(settings), tables, contents_of(files))
    if settings.dataset is None:
        raise ValueError("task=hub needs one of task.dataset=NAME (on the hub) and task.path=FILE_OR_FOLDER (on this machine)")
    return _of_datasets(settings, _fetch(settings))


def _of_datasets(settings: HubTaskSettings, datasets: Mapping[str, Any]) -> Task:
    settings = _with_columns(settings, datasets["train"].column_names)
    place = settings.path or settings.dataset or ""
    tables = {split: [DatasetRows(f"{place} ({split})", each, settings)] for split, each in datasets.items()}
    contents = {split: str(each._fingerprint) for split, each in datasets.items()}
    return task_of(settings, _name(settings), tables, contents)


def _with_columns(settings: HubTaskSettings, there: Iterable[str]) -> HubTaskSettings:
    """Return settings that name the columns as the dataset on the hub does, where all are there and the user names none."""
    named: dict[str, Any] = {"text_a": settings.hub_text_a, "text_b": settings.hub_text_b, "label": settings.hub_label}
    named = {key: column for key, column in named.items() if column is not None}
    if settings.text_a is not None or not named or not set(there).issuperset(named.values()):
        return settings
    return dataclasses.replace(settings, **named)


def _name(settings: HubTaskSettings) -> str:
    """Return the task's name; of a dataset without one of its own, the dataset's."""
    if settings.name != GENERIC_NAME:
        return settings.name
    return stem_of(Path(settings.path).expanduser()) if settings.path else str(settings.dataset).rpartition("/")[2]


def _open_saved(folder: Path, settings: HubTaskSettings) -> dict[str, Any]:
    saved = open_saved(folder, "task.path")
    if not isinstance(saved, dict):
        return {"train": saved}
    wanted = _wanted(settings)
    found = {split: saved[name] for split, name in wanted.items() if name in saved}
    if "train" not in found:
        raise ValueError(f"task.train_split={settings.train_split}: no such split in {folder}; it has {', '.join(saved)}")
    return found


def _wanted(settings: HubTaskSettings) -> dict[str, str]:
    names = {split: getattr(settings, f"{split}_split") for split in SPLITS}
    return {split: name for split, name in names.items() if name is not None}


def _fetch(settings: HubTaskSettings) -> dict[str, Any]:
    library = need("datasets", f"task.dataset={settings.dataset}")
    config = "" if settings.config is None else f", '{settings.config}'"
    found = {}
    for split, name in _wanted(settings).items():
        try:
            with hub_or_cache():
                found[split] = library.load_dataset(settings.dataset, settings.config, split=name, revision=settings.revision)
        except Exception as error:  # the library, its file systems and its network layer raise dozens of kinds
            raise ValueError(
                f"task.dataset={settings.dataset}: can't be fetched or read ({first_line(error)}). From files of this machine: "
                f"task.path=FOLDER with train, validation and test files, columns {_columns(settings)}; or, where there is a "
                f"network, datasets.load_dataset('{settings.dataset}'{config}).save_to_disk('FOLDER'), and task.path=FOLDER"
            ) from error
    return found


def _columns(settings: HubTaskSettings) -> str:
    """Name the columns that files of the task should have."""
    if settings.kind == "tags":
        return "tokens and tags (JSON lines)"
    return "text_a, text_b and label" if settings.hub_text_b else "text and label"
