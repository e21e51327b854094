"""Rows of a task's files before labels have a meaning: which columns are read, which rows are bad, and what kind of task they
make.

In: the strict reader's rows. Out: :class:`RawRow`, texts and a raw label, and the kind of task. Left out: splits, label names,
metrics, what tags mean (tags.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tofro.text.reader import Row, Table, missing_column
from tofro.text.settings import TaskSettings
from tofro.text.tags import tagging_problem

_FRACTION = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][-+]?\d+)\Z")
_INTEGER = re.compile(r"[-+]?\d+\Z")
_WITHHELD = {"", "-1", "-1.0"}  # what published test files put where they keep their labels back


class RawRow(NamedTuple):
    """A row whose texts are sound. In token tagging ``text_a`` holds the ``words``, joined by spaces, and the label is a list."""

    line: int
    text_a: str
    text_b: str | None
    label: object
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The names of the columns that a task reads; ``text_b`` is None for single texts."""

    text_a: str
    text_b: str | None
    label: str


@dataclass(frozen=True)
class RawSplit:
    """The rows of one file whose texts are sound; ``source`` takes further rejections."""

    source: Table
    rows: list[RawRow]
    labelled: bool


def resolve_columns(settings: TaskSettings, train: Table) -> Columns:
    """Return the columns to read, found in the train file. Raises ValueError where one is missing, and for kinds to come."""
    there = train.columns()
    tagged = settings.kind == "tags" or (
        settings.kind == "auto" and {"tokens", "tags"} <= set(there) and settings.label not in there
    )
    text_a = settings.text_a or ("tokens" if tagged else "text_a" if "text_a" in there else "text")
    label = "tags" if tagged and settings.label == "label" and "label" not in there else settings.label
    if text_a not in there:
        if {"question", "context"} <= set(there):
            raise ValueError(f"{train.name}:1: question and context make a question answering task, which is not supported")
        raise missing_column(train.name, "task.text_a", text_a, there)
    text_b = settings.text_b or ("text_b" if "text_b" in there and settings.kind != "tags" else None)
    if text_b is not None and text_b not in there:
        raise missing_column(train.name, "task.text_b", text_b, there)
    if label not in there:
        raise missing_column(train.name, "task.label", label, there)
    return Columns(text_a, text_b, label)


def holds_words(settings: TaskSettings, columns: Columns, train: Table) -> bool:
    """Say whether the task tags words: it is told so, or the first training row has a list for its text or its label."""
    if settings.kind == "auto":
        row = train.first()
        return isinstance(row.get(columns.text_a), list) or isinstance(row.get(columns.label), list)
    return settings.kind == "tags"


def read_split(source: Table, split: str, columns: Columns, words: bool = False) -> RawSplit:
    """Return the sound rows of one file, whose texts are lists of ``words`` in token tagging.

    A file other than train may lack labels; then only its texts are checked.
    """
    there = source.columns()
    for key, column in (("task.text_a", columns.text_a), ("task.text_b", columns.text_b)):
        if column is not None and column not in there:
            raise missing_column(source.name, key, column, there)
    labelled = columns.label in there
    if split == "train" and not labelled:  # of several files, the first has them
        raise missing_column(source.name, "task.label", columns.label, there)
    read: list[RawRow] = []
    for line, row in source:
        problem = word_problem(row, columns) if words else text_problem(row, columns)
        if problem is None:
            read.append(_words(line, row, columns) if words else _texts(line, row, columns))
        else:
            source.reject(line, problem)
    if not read:
        raise ValueError(f"{source.name}: no row of the file can be used ({len(source.quarantined)} were set aside)")
    if not labelled or (split != "train" and labels_withheld(row.label for row in read)):
        return RawSplit(source, read, labelled=False)
    sound = []
    for raw in read:
        if _text(raw.label) == "":
            source.reject(raw.line, f"the label {columns.label!r} is missing")
        else:
            sound.append(raw)
    return RawSplit(source, sound, labelled)


def labels_withheld(labels: Iterable[object]) -> bool:
    """Say whether all labels of a split are one and the same that stands for none."""
    different = {_text(label) for label in labels}
    return len(different) == 1 and different <= _WITHHELD


def resolve_kind(kind: str, train: Sequence[RawRow]) -> str:
    """Return the kind of task; ``auto`` means regression where all labels are numbers and some have a fraction."""
    if kind != "auto":
        return kind
    if train and train[0].words:
        return "tags"
    fractions = 0
    for label in (row.label for row in train):
        if isinstance(label, float) or (isinstance(label, str) and _FRACTION.match(label.strip())):
            fractions += 1
        elif isinstance(label, bool) or not (
            isinstance(label, int) or (isinstance(label, str) and _INTEGER.match(label.strip()))
        ):
            return "classification"
    return "regression" if fractions else "classification"


def text_problem(row: Row, columns: Columns) -> str | None:
    """Say what is wrong with a row's texts, or None."""
    for column in (columns.text_a, columns.text_b):
        if column is None:
            continue
        value = row.get(column)
        if value is not None and not isinstance(value, str):
            return f"{column!r} is {type(value).__name__}, a string was expected"
        if value is None or not value.strip():
            return f"{column!r} is {'missing' if value is None else 'empty'}"
    return None


def word_problem(row: Row, columns: Columns) -> str | None:
    """Say what is wrong with a row's words and tags, or None."""
    if columns.text_b is not None:
        return f"task.text_b={columns.text_b}: words are tagged in one text, not in pairs"
    problem = tagging_problem(row.get(columns.text_a), row.get(columns.label), columns.label)
    return None if problem is None else f"{columns.text_a!r} is {problem}"


def _texts(line: int, row: Row, columns: Columns) -> RawRow:
    return RawRow(line, row[columns.text_a], row[columns.text_b] if columns.text_b else None, row.get(columns.label))


def _words(line: int, row: Row, columns: Columns) -> RawRow:
    words = tuple(row[columns.text_a])
    return RawRow(line, " ".join(words), None, row.get(columns.label), words)


def _text(label: object) -> str:
    return "" if label is None else str(label).strip()
