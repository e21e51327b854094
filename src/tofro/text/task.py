"""Tasks: labelled examples in train, validation and test, with their kind and metric resolved.

In: a file or a folder of splits, with a column map. Out: a ``Task`` whose three splits are always there and labelled. What is
missing is carved from train by content, never from what is tested on, and ``notes`` says so. Left out: question answering, which
is refused by name; tokens and label ids, which are other rooms'.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tofro.progress import Progress
from tofro.text.cache import cache_folder
from tofro.text.files import stem_of
from tofro.text.fingerprint import fingerprint_path, hash_json, share_of
from tofro.text.reader import Rows
from tofro.text.settings import TaskSettings
from tofro.text.splits import carve, find_splits
from tofro.text.tags import METRICS as TAG_METRICS
from tofro.text.tags import spell_entities
from tofro.text.task_rows import Columns, RawRow, RawSplit, holds_words, read_split, resolve_columns, resolve_kind

GENERIC_NAME = "file"  # conf/task/file.yaml; the data's own name says more in a run folder
METRICS = {  # by kind of task
    "classification": ("accuracy", "f1", "macro_f1", "matthews"),
    "regression": ("spearman", "pearson"),
    "tags": TAG_METRICS,
}


@dataclass(frozen=True)
class Example:
    """One labelled text, or pair of texts. ``label`` is a name, or a number in regression.

    In token tagging it is one name for each of the ``words``, which ``text_a`` holds too, joined by spaces.
    """

    text_a: str
    text_b: str | None
    label: str | float | tuple[str, ...]
    words: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names in ``label``: one, or one for each word; none in regression."""
        if isinstance(self.label, tuple):
            return self.label
        return (self.label,) if isinstance(self.label, str) else ()


@dataclass(frozen=True)
class Task:
    """Labelled examples by split.

    ``kind`` is classification, regression or tags; ``labels`` are sorted names of classes or tags, empty in regression;
    ``metric`` is never ``auto``.
    """

    name: str
    kind: str
    pair: bool
    labels: tuple[str, ...]
    metric: str
    splits: Mapping[str, list[Example]]
    fingerprint: str
    notes: tuple[str, ...] = ()


Numbered = tuple[int, Example]  # an example and the line it stood in


def read_task(settings: TaskSettings, progress: Progress | None = None) -> Task:
    """Return the task that ``settings.path`` names. Raises ValueError, with file and line or key, for what can't be used."""
    if settings.path is None:
        raise ValueError(
            "task.path is not set: name a .jsonl, .csv or .tsv file (.gz allowed), or a folder with train, validation, test"
        )
    path = Path(settings.path).expanduser()
    files = find_splits(path)
    train = Rows(files["train"], settings.on_bad_row)
    columns = resolve_columns(settings, train)
    words = holds_words(settings, columns, train)
    raw = {split: read_split(file, split, columns, settings.on_bad_row, words) for split, file in files.items()}
    kind = resolve_kind(settings.kind, raw["train"])
    notes: list[str] = []
    read: dict[str, list[Numbered]] = {}
    for split, rows in raw.items():
        if rows.labelled:
            read[split] = _label(rows, kind)
        else:
            notes.append(f"{split}: {rows.source.path.name} has no labels, so it is left out")
        notes += _quarantine_note(split, rows)
    labels = () if kind == "regression" else _find_labels(read["train"], files["train"])
    for split in read if labels else ():
        _check_labels(read[split], labels, files[split])
    splits = _complete(read, settings.validation_share, notes)
    if settings.train_rows is not None:
        splits["train"] = choose_rows(splits["train"], settings.train_rows, labels)
    return Task(
        name=settings.name if settings.name != GENERIC_NAME else stem_of(path),
        kind=kind,
        pair=columns.text_b is not None,
        labels=labels,
        metric=resolve_metric(settings.metric, kind, labels),
        splits=splits,
        fingerprint=_fingerprint(settings, files, columns, kind),
        notes=tuple(notes),
    )


def choose_rows(rows: Sequence[Example], count: int, labels: Sequence[str]) -> list[Example]:
    """Return the ``count`` rows that come first by content hash, in their order.

    They are the same for every seed, and a smaller choice lies within a larger one. Raises ValueError where there are fewer
    rows, or where a label would lose its last row.
    """
    if count > len(rows):
        raise ValueError(f"task.train_rows={count}: the training split has {len(rows)} rows")
    ranked = sorted(range(len(rows)), key=lambda row: share_of("rows", rows[row].text_a, rows[row].text_b))
    chosen = [rows[row] for row in sorted(ranked[:count])]
    lost = sorted(set(labels).difference(*(example.labels for example in chosen)))
    if lost:
        raise ValueError(f"task.train_rows={count}: no row is left of label {', '.join(map(repr, lost))}; use more rows")
    return chosen


def resolve_metric(metric: str, kind: str, labels: Sequence[str]) -> str:
    """Return the metric's name, ``auto`` resolved. Raises ValueError where it doesn't suit the kind of task."""
    if metric == "auto":
        return "accuracy" if kind == "tags" and not spell_entities(labels) else METRICS[kind][0]
    if metric not in METRICS[kind]:
        raise ValueError(f"task.metric={metric} does not suit a {kind} task; auto chooses one that does")
    if metric == "f1" and len(labels) != 2:
        raise ValueError(f"task.metric=f1 is for two labels, this task has {len(labels)}; use macro_f1")
    return metric


def _label(rows: RawSplit, kind: str) -> list[Numbered]:
    """Turn raw labels into names or numbers; a label that can't be one makes a bad row."""
    read: list[Numbered] = []
    for row in rows.rows:
        value = _value(row, kind)
        if value is None:
            rows.source.reject(row.line, f"label {row.label!r} is no {'finite number' if kind == 'regression' else 'name'}")
        else:
            read.append((row.line, Example(row.text_a, row.text_b, value, row.words)))
    if not read:
        raise ValueError(f"{rows.source.path}: no row of the file can be used ({len(rows.source.quarantined)} were set aside)")
    return read


def _value(row: RawRow, kind: str) -> str | float | tuple[str, ...] | None:
    if kind == "tags":
        assert isinstance(row.label, list), "tags are checked with their words"
        return tuple(tag.strip() for tag in row.label)
    return _name(row.label) if kind == "classification" else _number(row.label)


def _name(label: object) -> str | None:
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float):  # 1.0 and 1 are one label
        return str(int(label)) if label.is_integer() else repr(label)
    return (str(label).strip() or None) if isinstance(label, str | int) else None


def _number(label: object) -> float | None:
    try:
        value = float(label) if isinstance(label, str | int | float) and not isinstance(label, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _quarantine_note(split: str, rows: RawSplit) -> list[str]:
    lines = sorted(rows.source.quarantined)
    if not lines:
        return []
    shown = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
    return [f"{split}: {len(lines)} bad rows of {rows.source.path.name} set aside (lines {shown})"]


def _find_labels(train: list[Numbered], path: Path) -> tuple[str, ...]:
    labels = tuple(sorted({label for _, example in train for label in example.labels}))
    if len(labels) < 2:
        one = "word has the tag" if train[0][1].words else "row has the label"
        raise ValueError(f"{path}: every training {one} {labels[0]!r}; a task needs at least two labels (see task.label)")
    return labels


def _check_labels(rows: list[Numbered], labels: tuple[str, ...], path: Path) -> None:
    known = set(labels)
    for line, example in rows:
        for label in example.labels:
            if label not in known:
                near = difflib.get_close_matches(label, labels, n=1)
                shown = ", ".join(map(repr, labels[:12])) + (", ..." if len(labels) > 12 else "")
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{path}:{line}: label {label!r} never occurs in training, which has {shown}{hint}")


def _complete(read: dict[str, list[Numbered]], share: float, notes: list[str]) -> dict[str, list[Example]]:
    """Return all three splits: without a labelled test, validation serves as test; what is missing then is carved from train."""
    splits = {split: [example for _, example in rows] for split, rows in read.items()}
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("test: there is no labelled test file, so the validation file serves as test")
    for split in ("test", "validation"):
        if split not in splits:
            splits["train"], splits[split] = carve(
                splits["train"],
                share,
                position=lambda example, salt=split: share_of(salt, example.text_a, example.text_b),  # type: ignore[misc]
                labels=lambda example: example.labels,
            )
            notes.append(f"{split}: {len(splits[split])} rows carved from train by content hash")
    return {split: splits[split] for split in ("train", "validation", "test")}


def _fingerprint(settings: TaskSettings, files: Mapping[str, Path], columns: Columns, kind: str) -> str:
    """Hash the files' content and whatever of the settings decides which examples come out of them."""
    contents = {split: fingerprint_path(file, cache_folder()) for split, file in files.items()}
    read_as = [asdict(columns), kind, settings.train_rows, settings.validation_share, settings.on_bad_row]
    return hash_json([contents, read_as])
