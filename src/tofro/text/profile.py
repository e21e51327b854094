"""What the rows of a task look like: how many, how long, which labels, what is empty, what repeats itself.

In: rows as the strict reader gives them, or examples. Out: :class:`SplitProfile` by split, plain numbers that JSON holds. Rows go
by one at a time; some 50 bytes of each are kept. Nothing is refused here but what can't be read; what a run would refuse is
counted.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tofro.text.duplicates import Seen
from tofro.text.reader import Row, Table, missing_column
from tofro.text.task import Example, label_name
from tofro.text.task_rows import RawRow, labels_withheld, resolve_kind

BLOCK = 4096  # texts whose tokens are counted at a time
MOST_LABELS = 10_000  # different ones that are told apart; more are no classes
SHOWN = 5  # lines named of each finding

CountTokens = Callable[[list[str]], Sequence[int]]


@dataclass(frozen=True)
class Read:
    """The columns that are read; None where there is no such."""

    text_a: str
    text_b: str | None
    label: str | None


@dataclass
class SplitProfile:
    """What was met in one split."""

    count_tokens: CountTokens | None = None
    lines: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))
    words: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    seen: Seen = field(default_factory=Seen)
    labels: Counter[str] = field(default_factory=Counter)
    raw: dict[tuple[str, Any], None] = field(default_factory=dict)  # different labels as they are written
    unlabelled: int = 0
    empty: list[int] = field(default_factory=list)
    odd: list[int] = field(default_factory=list)  # lines whose text is neither a string nor a list of strings
    bad: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    tagged: bool = False
    _waiting: list[str] = field(default_factory=list)

    def add_row(self, line: int, row: Row, read: Read) -> None:
        """Count a row of a table."""
        texts = [row.get(column) for column in (read.text_a, read.text_b) if column is not None]
        words = texts[0] if isinstance(texts[0], list) and all(isinstance(word, str) for word in texts[0]) else None
        plain = (
            [" ".join(words)] if words is not None else [text or "" for text in texts if text is None or isinstance(text, str)]
        )
        if len(plain) < len(texts):
            self.odd.append(line)
            return
        if not all(text.strip() for text in plain):
            self.empty.append(line)
        label = None if read.label is None else row.get(read.label)
        self.tagged = self.tagged or isinstance(label, list)
        self._add(line, plain[0], plain[1] if len(plain) > 1 else None, label, words)

    def add_example(self, line: int, example: Example) -> None:
        """Count an example of a task that is already read."""
        self.tagged = self.tagged or isinstance(example.label, tuple)
        label = list(example.label) if isinstance(example.label, tuple) else example.label
        self._add(line, example.text_a, example.text_b, label, example.words or None)

    def _add(self, line: int, text_a: str, text_b: str | None, label: Any, words: Sequence[str] | None) -> None:
        self.lines.append(line)
        self.characters.append(len(text_a) + len(text_b or ""))
        self.words.append(len(words) if words is not None else len(text_a.split()) + len((text_b or "").split()))
        names = [name for each in (label if isinstance(label, list) else [label]) if (name := label_name(each)) is not None]
        if not names:
            self.unlabelled += 1
        self.seen.add(text_a, text_b, tuple(names))
        if len(self.labels) < MOST_LABELS:
            self.labels.update(names)
            if not isinstance(label, list | dict):
                self.raw[type(label).__name__, label] = None
        if self.count_tokens is not None:
            self._waiting.append(" ".join(f"{text_a} {text_b or ''}".split()))
            if len(self._waiting) >= BLOCK:
                self.settle()

    def settle(self) -> None:
        """Count the tokens that are owed."""
        if self._waiting and self.count_tokens is not None:
            self.tokens.extend(self.count_tokens(self._waiting))
        self._waiting = []

    @property
    def kind(self) -> str | None:
        """The kind of task that the labels make, None where there are none."""
        if self.tagged:
            return "tags"
        if not self.labels:
            return None
        return resolve_kind("auto", [RawRow(0, "", None, label) for _, label in self.raw if label is not None])

    @property
    def withheld(self) -> bool:
        """Whether every row has one and the same label that stands for none."""
        return bool(self.labels) and not self.tagged and labels_withheld(label for _, label in self.raw)

    def numbers(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        self.settle()
        repeats, torn = self.seen.repeats()
        found: dict[str, Any] = {
            "rows": len(self.lines),
            "bad_rows": _places(self.bad) | {"reasons": self.reasons},
            "rows_without_text": _places(self.odd),
            "empty_texts": _places(self.empty),
            "rows_without_label": self.unlabelled,
            "labels_withheld": self.withheld,
            "repeated_texts": repeats,
            "texts_with_several_labels": 0 if self.kind == "regression" else torn,
            "characters": spread(self.characters),
            "words": spread(self.words),
        }
        if self.count_tokens is not None:
            found["tokens"] = spread(self.tokens)
        if self.kind == "regression":
            found["scores"] = spread([float(label) for label in self.labels.elements()])
        else:
            found["labels"] = dict(self.labels.most_common())
            found["more_labels"] = len(self.labels) >= MOST_LABELS
        return found


def choose_columns(there: Sequence[str], name: str, text_a: str | None, text_b: str | None, label: str | None) -> Read:
    """Return the columns to read: those asked for, else those that a task finds by itself; ValueError where there is no text."""
    first = text_a or next((column for column in ("text_a", "text", "tokens") if column in there), None)
    second = text_b or ("text_b" if "text_b" in there and first != "tokens" else None)
    third = label or next((column for column in ("label", "tags") if column in there), None)
    for flag, column in (("--text-a", first or "text"), ("--text-b", second), ("--label", third)):
        if column is not None and column not in there:
            raise missing_column(name, flag, column, there)
    return Read(first or "text", second, third)


def profile_table(table: Table, read: Read, profile: SplitProfile) -> None:
    """Add the rows of a table, bad ones counted, to a split's profile."""
    for line, row in table:
        profile.add_row(line, row, read)
    profile.bad += table.quarantined
    profile.reasons += table.reasons


def leaks(profiles: Mapping[str, SplitProfile]) -> dict[str, dict[str, Any]]:
    """Return by split how many of its rows also occur in train, exactly and loosely, with the first lines."""
    train = profiles.get("train")
    found = {}
    for split, other in profiles.items() if train is not None else ():
        if train is not None and split != "train":
            leak = train.seen.leaks_into(other.seen, SHOWN)
            lines = [other.lines[place] for place in leak.first]
            found[split] = {"exact": leak.exact, "normalised": leak.loose, "first_lines": lines}
    return found


def unseen_labels(profiles: Mapping[str, SplitProfile]) -> dict[str, dict[str, int]]:
    """Return by split the labels that never occur in train, which a run refuses."""
    train = profiles.get("train")
    if train is None or train.kind in (None, "regression"):
        return {}
    found = {
        split: {label: count for label, count in other.labels.items() if label not in train.labels}
        for split, other in profiles.items()
        if split != "train" and not other.withheld
    }
    return {split: labels for split, labels in found.items() if labels}


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Return the least, median, mean, 95th percentile and greatest of some numbers; None of none."""
    numbers = np.asarray(values if isinstance(values, array) else list(values), dtype=np.float64)
    if not len(numbers):
        return None
    low, median, most, high = np.percentile(numbers, [0, 50, 95, 100]).tolist()
    return {"min": low, "median": median, "mean": float(numbers.mean()), "95%": most, "max": high}


def _places(lines: Sequence[int]) -> dict[str, Any]:
    return {"count": len(lines), "first_lines": list(lines[:SHOWN])}
