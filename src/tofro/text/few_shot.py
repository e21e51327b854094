"""A few rows of each class: which they are, told by what they say, so that a choice can be written to a file and checked.

In: a task. Out: :class:`Split`, the hashes of the chosen rows in one or several draws; its rows; or the same task with no other
rows to learn from. Rows come from the training split alone and depend on content and the number of the draw, never on order or
seed. Leaves out what is trained on them (measures/few_shot.py, runs).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tofro.text.fingerprint import hash_json, share_of
from tofro.text.settings import TaskSettings
from tofro.text.task import Example, Task

Draws = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Split:
    """Rows for few-shot fine-tuning on ``task``: in each draw the hashes of ``per_class`` rows of every label.

    Where a run chooses among its own evaluations, ``validation`` holds as many other rows for each draw.
    """

    task: str
    per_class: int
    draws: Draws
    validation: Draws = ()

    @property
    def checksum(self) -> str:
        """The sha256 of what is chosen; how the task is called is no part of it."""
        return hash_json([self.per_class, self.draws, *([self.validation] if self.validation else [])])

    def as_json(self) -> dict[str, Any]:
        """Return what a split file holds."""
        held_out = {"validation": self.validation} if self.validation else {}
        return {"task": self.task, "per_class": self.per_class, "sha256": self.checksum, "draws": self.draws} | held_out


def row_hash(example: Example) -> str:
    """Return the 16 hex digits that a row is known by: of its texts and its label."""
    return hash_json([example.text_a, example.text_b, example.label])[:16]


def draw_split(task: Task, per_class: int, draws: int, key: str = "method.few_shot") -> Split:
    """Choose ``per_class`` different rows of every label, in each of ``draws`` ways, by content hash and number of the draw.

    A regression has no labels: then they are ``per_class`` rows in all. A smaller choice lies within a larger one of the same
    draw. Raises ValueError, with the config ``key``, where a label has too few rows.
    """
    ranked = [_ranked(task, draw, per_class, per_class, key) for draw in range(draws)]
    return Split(task.name, per_class, tuple(tuple(name for names in ranks for name in names[:per_class]) for ranks in ranked))


def draw_own(task: Task, per_class: int, draw: int) -> Split:
    """Choose the rows that a run learns from, those of ``draw_split``, and as many others to choose among its evaluations.

    These stand at the other end of the same order, so that they too lie within those of a larger choice.
    """
    ranks = _ranked(task, draw, per_class, 2 * per_class, "task.per_class")
    train, held_out = (
        tuple(name for names in ranks for name in names[part]) for part in (slice(per_class), slice(-per_class, None))
    )
    return Split(task.name, per_class, (train,), (held_out,))


def _ranked(task: Task, draw: int, per_class: int, needed: int, key: str) -> list[list[str]]:
    """Return the hashes of the training rows of every label, in the order of a draw; rows that say the same are one."""
    groups: dict[str, list[str]] = {label: [] for label in task.labels or ("",)}
    for name, example in _known(task).items():
        groups[str(example.label) if task.labels else ""].append(name)
    for label, names in groups.items():
        if len(names) < needed:
            what = f"of label {label!r}" if label else "in all"
            wants = "" if needed == per_class else f", and it takes {per_class} to train on and {per_class} to validate on"
            raise ValueError(
                f"{key}={per_class}: {task.name} has {len(names)} different training rows {what}{wants}; ask for fewer"
            )
    return [sorted(names, key=lambda name: share_of(f"few shot {draw}", name)) for names in groups.values()]


def _known(task: Task) -> dict[str, Example]:
    return {row_hash(example): example for example in task.splits["train"]}


def read_split(path: Path, key: str = "method.few_shot_splits") -> Split:
    """Return the split in a file. Raises ValueError, with the file's name, where it is none or was changed since."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        draws, held_out = (tuple(tuple(map(str, draw)) for draw in content.get(name, ())) for name in ("draws", "validation"))
        split, told = Split(str(content["task"]), int(content["per_class"]), draws, held_out), content["sha256"]
    except OSError as error:
        raise ValueError(f"{key}: {path} can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: is no split file ({error!r}); a run with method.few_shot or task.per_class writes some under few_shot/"
        ) from None
    if split.checksum != told:
        raise ValueError(f"{path}: its rows do not have the checksum that it gives; take the file as it was written")
    return split


def rows_of(split: Split, task: Task) -> list[list[Example]]:
    """Return the rows of every draw, in the training split's order. Raises ValueError where ``split`` does not fit ``task``."""
    return _rows(split, split.draws, task, "draw")


def _rows(split: Split, draws: Draws, task: Task, what: str) -> list[list[Example]]:
    known = _known(task)
    labels = task.labels or ("",)
    found = []
    for number, draw in enumerate(draws):
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
                f"few-shot split of {split.task}: {what} {number} has {counts} rows, not {split.per_class} of each label"
            )
        found.append(rows)
    return found


def own_split(task: Task, settings: TaskSettings) -> Split | None:
    """Return which rows of ``task`` a run learns from, as its ``settings`` say: one draw; None where it is all of them.

    Raises ValueError, with the key or the file, where they can't be chosen.
    """
    if settings.per_class is None and settings.split_file is None:
        if settings.draw:
            raise ValueError(f"task.draw={settings.draw}: chooses among draws of few rows; set task.per_class or task.split_file")
        return None
    key = "task.per_class" if settings.split_file is None else "task.split_file"
    if settings.train_rows is not None:
        raise ValueError(f"task.train_rows={settings.train_rows}: {key} chooses the training rows already; set one of the two")
    if settings.validation_rows is not None:
        raise ValueError(f"task.validation_rows={settings.validation_rows}: {key} chooses those rows too; set one of the two")
    if task.kind == "tags":
        raise ValueError(f"{key}: {task.name} tags words, which have no k examples of each class; use task.train_rows")
    if settings.split_file is None:
        assert settings.per_class is not None
        return draw_own(task, settings.per_class, settings.draw)
    return _from_file(Path(settings.split_file).expanduser(), task, settings)


def _from_file(path: Path, task: Task, settings: TaskSettings) -> Split:
    """Return the draw that ``settings`` name of a split file. ValueError where it has none, or it does not fit ``task``."""
    split, draw = read_split(path, "task.split_file"), settings.draw
    if settings.per_class not in (None, split.per_class):
        raise ValueError(f"task.per_class={settings.per_class}: {path} chooses {split.per_class}; leave the key out")
    if draw >= len(split.draws):
        raise ValueError(f"task.draw={draw}: {path} has {len(split.draws)} draws, counted from 0")
    if len(split.validation) != len(split.draws):
        raise ValueError(
            f"{path}: has no rows to validate on for every draw; take a file that a run with task.per_class wrote under few_shot/"
        )
    chosen = replace(split, draws=(split.draws[draw],), validation=(split.validation[draw],))
    try:
        few_rows(task, chosen)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return chosen


def few_rows(task: Task, split: Split) -> Task:
    """Return ``task`` with the rows of the one draw of ``split`` to train and to validate on; the test split stays whole.

    Choosing the best evaluation on a whole validation split would use many more labels than the task is said to have (Perez et
    al. 2021); as many rows as are trained on is what Gao et al. (2021) choose on.
    """
    (train,), (held_out,) = rows_of(split, task), _rows(split, split.validation, task, "the validation of draw")
    if set(split.draws[0]) & set(split.validation[0]):
        raise ValueError(f"few-shot split of {split.task}: a row is both trained and validated on")
    each = "of each label" if task.labels else "in all"
    note = f"few shot: {split.per_class} rows {each} to train on and as many others to validate on, all from train's {{}} rows"
    return replace(
        task,
        splits={**task.splits, "train": train, "validation": held_out},
        fingerprint=hash_json([task.fingerprint, split.checksum]),
        notes=(*task.notes, note.format(len(task.splits["train"]))),
    )
