"""Rows that say the same: within a split, and in train as well as in what is tested on. They are counted; dropped where asked.

In: texts and labels, one row at a time. Out: counts, and sentences about them for a run's notes; splits without leaks. A row is
remembered by hashes, 24 bytes in all, so that millions can be compared. *Loosely* the same are texts that differ in case, spaces,
punctuation or the width of characters alone.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

_NO_SIGNS = {code: None for code in range(128) if not chr(code).isalnum()}


class Text(Protocol):
    """What is compared of an example."""

    @property
    def text_a(self) -> str:
        """First text."""

    @property
    def text_b(self) -> str | None:
        """Second text of a pair."""

    @property
    def label(self) -> Hashable:
        """Its label, whatever it is."""


Row = TypeVar("Row", bound=Text)


@dataclass(frozen=True)
class Leak:
    """How many rows of a split also occur in train, and the first of them."""

    exact: int
    loose: int  # those that are exactly the same among them
    first: tuple[int, ...] = ()  # places in the split, from 0, of rows that are loosely the same


class Seen:
    """The rows of one split, as hashes of this process."""

    def __init__(self) -> None:
        self.exact, self.loose, self.labelled = array("q"), array("q"), array("q")

    def add(self, text_a: str, text_b: str | None, label: Hashable) -> None:
        """Remember a row."""
        same = hash((text_a, text_b))
        self.exact.append(same)
        self.loose.append(hash((loosely(text_a), None if text_b is None else loosely(text_b))))
        self.labelled.append(hash((same, label)))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.exact)

    def repeats(self) -> tuple[int, int]:
        """Return how many rows repeat the text of an earlier one, and how many texts occur with several labels."""
        import numpy as np  # here, for numpy is slow to import and most readers of tasks get by without

        if not self.exact:
            return 0, 0
        pairs = np.unique(np.stack([_view(self.exact), _view(self.labelled)]), axis=1)  # (2, texts and labels)
        _, labels = np.unique(pairs[0], return_counts=True)
        return len(self.exact) - len(labels), int(np.count_nonzero(labels > 1))

    def leaks_into(self, other: Seen, shown: int = 5) -> Leak:
        """Return what of ``other`` occurs here."""
        import numpy as np

        exact, loose = (np.isin(_view(theirs), _view(ours)) for theirs, ours in _sides(other, self))
        places = np.flatnonzero(exact | loose)
        return Leak(int(exact.sum()), len(places), tuple(places[:shown].tolist()))


def loosely(text: str) -> str:
    """Return a text's letters and digits, without case and width; a text without any as it is."""
    if text.isascii():
        return text.lower().translate(_NO_SIGNS) or text
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold())) or text


def see(examples: Iterable[Text]) -> Seen:
    """Return the examples of a split as they are compared."""
    seen = Seen()
    for example in examples:
        seen.add(example.text_a, example.text_b, example.label)
    return seen


def duplicate_notes(splits: Mapping[str, Iterable[Text]]) -> list[str]:
    """Say in sentences what repeats itself in ``train`` and what of the other splits occurs there; nothing where nothing does."""
    seen = {split: see(examples) for split, examples in splits.items()}
    train, notes = seen.pop("train"), []
    repeats, torn = train.repeats()
    if repeats:
        odd = f"; {torn:,} texts have more than one label" if torn else ""
        notes.append(f"train: {repeats:,} of {len(train):,} rows repeat the text of an earlier one{odd}")
    for split, other in seen.items():
        leak = train.leaks_into(other)
        if leak.loose:
            more = f", {leak.loose:,} where case, spaces and punctuation don't count" if leak.loose > leak.exact else ""
            notes.append(f"{split}: {leak.exact:,} of {len(other):,} rows also occur in train{more}")
    return notes


def drop_leaks(splits: Mapping[str, list[Row]]) -> tuple[dict[str, list[Row]], list[str]]:
    """Return the splits without the rows of validation and test that ``train`` loosely has too, and notes on it.

    Raises ValueError where nothing is left of a split.
    """
    known = {_loose(row) for row in splits["train"]}
    kept: dict[str, list[Row]] = {}
    notes = []
    for split, rows in splits.items():
        kept[split] = rows if split == "train" else [row for row in rows if _loose(row) not in known]
        if not kept[split]:
            raise ValueError(f"task.on_leak=drop: every row of {split} occurs in train too, so none is left; get other rows")
        if dropped := len(rows) - len(kept[split]):
            notes.append(f"{split}: {dropped:,} of {len(rows):,} rows were dropped, for they occur in train (task.on_leak)")
    return kept, notes


def _loose(row: Text) -> tuple[str, str | None]:
    return loosely(row.text_a), None if row.text_b is None else loosely(row.text_b)


def _sides(theirs: Seen, ours: Seen) -> tuple[tuple[array[int], array[int]], tuple[array[int], array[int]]]:
    return (theirs.exact, ours.exact), (theirs.loose, ours.loose)


def _view(hashes: array[int]) -> np.ndarray:
    import numpy as np

    return np.frombuffer(hashes, dtype=np.int64) if hashes else np.zeros(0, dtype=np.int64)
