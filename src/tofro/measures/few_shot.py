"""Few-shot fine-tuning: how well an encoder learns a task from k examples of each class.

In: a task, a choice of training rows that is the same for every model, and a callable that fine-tunes a fresh model on rows. Out:
one number per draw of rows. Rows are known by a hash of what they say, so that a choice can be written to a file, handed on and
checked. Leaves out how to train: ``fit`` knows (runs/few_shot.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.measures.tasks import evaluate_task
from tofro.text.fingerprint import hash_json, share_of
from tofro.text.task import Example, Task

Fit = Callable[[Sequence[Example], int], Model]  # (rows, number of the draw) -> a model with a trained task head


@dataclass(frozen=True)
class Split:
    """Rows for few-shot fine-tuning on ``task``: in each draw the hashes of ``per_class`` rows of every label."""

    task: str
    per_class: int
    draws: tuple[tuple[str, ...], ...]

    @property
    def checksum(self) -> str:
        """The sha256 of what is chosen; how the task is called is no part of it."""
        return hash_json([self.per_class, self.draws])

    def as_json(self) -> dict[str, Any]:
        """Return what a split file holds."""
        return {"task": self.task, "per_class": self.per_class, "sha256": self.checksum, "draws": self.draws}


def row_hash(example: Example) -> str:
    """Return the 16 hex digits that a row is known by: of its texts and its label."""
    return hash_json([example.text_a, example.text_b, example.label])[:16]


def draw_split(task: Task, per_class: int, draws: int) -> Split:
    """Choose ``per_class`` different rows of every label, in each of ``draws`` ways, by content hash and number of the draw.

    A regression has no labels: then they are ``per_class`` rows in all. A smaller choice lies within a larger one of the same
    draw. Raises ValueError where a label has too few rows.
    """
    rows = {row_hash(example): example for example in task.splits["train"]}  # rows that say the same are one
    groups: dict[str, list[str]] = {label: [] for label in task.labels or ("",)}
    for name, example in rows.items():
        groups[str(example.label) if task.labels else ""].append(name)
    for label, names in groups.items():
        if len(names) < per_class:
            what = f"of label {label!r}" if label else "in all"
            raise ValueError(
                f"method.few_shot={per_class}: {task.name} has {len(names)} different training rows {what}; ask for fewer"
            )
    found = []
    for draw in range(draws):
        place = {name: share_of(f"few shot {draw}", name) for name in rows}
        found.append(tuple(name for names in groups.values() for name in sorted(names, key=place.__getitem__)[:per_class]))
    return Split(task.name, per_class, tuple(found))


def read_split(path: Path) -> Split:
    """Return the split in a file. Raises ValueError, with the file's name, where it is none or was changed since."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        draws = tuple(tuple(map(str, draw)) for draw in content["draws"])
        split, told = Split(str(content["task"]), int(content["per_class"]), draws), content["sha256"]
    except OSError as error:
        raise ValueError(f"method.few_shot_splits: {path} can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: is no split file ({error!r}); a run with method.few_shot writes some under few_shot/"
        ) from None
    if split.checksum != told:
        raise ValueError(f"{path}: its rows do not have the checksum that it gives; take the file as it was written")
    return split


def rows_of(split: Split, task: Task) -> list[list[Example]]:
    """Return the rows of every draw, in the training split's order. Raises ValueError where ``split`` does not fit ``task``."""
    known = {row_hash(example): example for example in task.splits["train"]}
    labels = task.labels or ("",)
    found = []
    for number, draw in enumerate(split.draws):
        lost = [name for name in draw if name not in known]
        if lost:
            raise ValueError(
                f"few-shot split of {split.task}: {len(lost)} of its rows, {lost[0]} say, are not in {task.name}'s train"
            )
        chosen = set(draw)
        rows = [example for name, example in known.items() if name in chosen]
        counts = {label: sum(str(row.label) == label for row in rows) if task.labels else len(rows) for label in labels}
        if set(counts.values()) != {split.per_class}:
            raise ValueError(
                f"few-shot split of {split.task}: draw {number} has {counts} rows, not {split.per_class} of each label"
            )
        found.append(rows)
    return found


def few_shot(task: Task, split: Split, fit: Fit, batches: Sequence[Batch]) -> list[float]:
    """Return the task's metric on ``batches``, labels included, after fine-tuning on each draw of ``split``."""
    return [evaluate_task(fit(rows, draw), batches, task) for draw, rows in enumerate(rows_of(split, task))]
