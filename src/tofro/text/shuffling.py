"""Labels that mean nothing: the null control of everything that learns from them.

In: labelled examples and a seed. Out: the same examples and the same labels, dealt out anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from tofro.text.task import Example


def shuffle_labels(rows: Sequence[Example], seed: int) -> list[Example]:
    """Return ``rows`` with their labels in another order, a function of ``seed`` alone; how often each label occurs stays."""

    def place(row: int) -> bytes:
        return hashlib.sha256(f"{seed} {row}".encode()).digest()

    dealt = sorted(range(len(rows)), key=place)
    return [replace(row, label=rows[other].label) for row, other in zip(rows, dealt, strict=True)]
