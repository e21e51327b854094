"""Labels that mean nothing: the null control of everything that learns from them.

In: labelled examples and a seed. Out: the same examples and the same labels, dealt out anew.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from tofro.text.task import Example

Label = TypeVar("Label")


def shuffle_labels(rows: Sequence[Example], seed: int) -> list[Example]:
    """Return ``rows`` with their labels in another order, a function of ``seed`` alone; how often each label occurs stays.

    The tags of words are dealt out over the words of all texts.
    """
    if rows and rows[0].words:
        tags = iter(_dealt([tag for row in rows for tag in row.labels], seed))
        return [replace(row, label=tuple(itertools.islice(tags, len(row.words)))) for row in rows]
    return [replace(row, label=label) for row, label in zip(rows, _dealt([row.label for row in rows], seed), strict=True)]


def _dealt(labels: Sequence[Label], seed: int) -> list[Label]:
    def place(row: int) -> bytes:
        return hashlib.sha256(f"{seed} {row}".encode()).digest()

    return [labels[other] for other in sorted(range(len(labels)), key=place)]
