"""Tasks: labelled examples in train, validation and test, with their kind and metric resolved.

In: a file or a folder of splits, with a column map. Out: a ``Task`` whose three splits are always there and labelled. What is
missing is carved from train by content, never from what is tested on, and ``notes`` says so. Left out: token tags and question
answering, which are refused by name; tokens and label ids, which are other rooms'.
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
from tofro.text.task_rows import Columns, RawSplit, read_split, resolve_columns, resolve_kind

GENERIC_NAME = "file"  # conf/task/file.yaml; the data's own name says more in a run folder
_REGRESSION_METRICS = ("pearson", "spearman")


@dataclass(frozen=True)
class Example:
    """One labelled text, or pair of texts. ``label`` is a name, or a number in regression."""

    text_a: str
    text_b: str | None
    label: str | float


@dataclass(frozen=True)
class Task:
    """Labelled examples by split. ``labels`` are sorted names, empty in regression; ``metric`` is never ``auto``."""

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
    columns = resolve_columns(settings, Rows(files["train"], settings.on_bad_row))
    raw = {split: read_split(file, split, columns, settings.on_bad_row) for split, file in files.items()}
    kind = resolve_kind(settings.kind, raw["train"])
    notes: list[str] = []
    read: dict[str, list[Numbered]] = {}
    for split, rows in raw.items():
        if rows.labelled:
            read[split] = _label(rows, kind)
        else:
            notes.append(f"{split}: {rows.source.path.name} has no labels, so it is left out")
        notes += _quarantine_note(split, rows)
    labels = _find_labels(read["train"], files["train"]) if kind == "classification" else ()
    for split in read if labels else ():
        _check_labels(read[split], labels, files[split])
    splits = _complete(read, settings.validation_share, bool(labels), notes)
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
    lost = sorted(set(labels) - {str(example.label) for example in chosen})
    if lost:
        raise ValueError(f"task.train_rows={count}: no row is left of label {', '.join(map(repr, lost))}; use more rows")
    return chosen


def resolve_metric(metric: str, kind: str, labels: Sequence[str]) -> str:
    """Return the metric's name, ``auto`` resolved. Raises ValueError where it doesn't suit the kind of task."""
    if metric == "auto":
        return "spearman" if kind == "regression" else "accuracy"
    if (metric in _REGRESSION_METRICS) != (kind == "regression"):
        raise ValueError(f"task.metric={metric} does not suit a {kind} task; auto chooses one that does")
    if metric == "f1" and len(labels) != 2:
        raise ValueError(f"task.metric=f1 is for two labels, this task has {len(labels)}; use macro_f1")
    return metric


def _label(rows: RawSplit, kind: str) -> list[Numbered]:
    """Turn raw labels into names or numbers; a label that can't be one makes a bad row."""
    read: list[Numbered] = []
    for line, text_a, text_b, label in rows.rows:
        value: str | float | None = _name(label) if kind == "classification" else _number(label)
        if value is None:
            rows.source.reject(line, f"label {label!r} is no {'name' if kind == 'classification' else 'finite number'}")
        else:
            read.append((line, Example(text_a, text_b, value)))
    if not read:
        raise ValueError(f"{rows.source.path}: no row of the file can be used ({len(rows.source.quarantined)} were set aside)")
    return read


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
    labels = tuple(sorted({str(example.label) for _, example in train}))
    if len(labels) < 2:
        raise ValueError(
            f"{path}: every training row has the label {labels[0]!r}; a task needs at least two labels (see task.label)"
        )
    return labels


def _check_labels(rows: list[Numbered], labels: tuple[str, ...], path: Path) -> None:
    known = set(labels)
    for line, example in rows:
        if example.label not in known:
            near = difflib.get_close_matches(str(example.label), labels, n=1)
            shown = ", ".join(map(repr, labels[:12])) + (", ..." if len(labels) > 12 else "")
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{path}:{line}: label {example.label!r} never occurs in training, which has {shown}{hint}")


def _complete(read: dict[str, list[Numbered]], share: float, classes: bool, notes: list[str]) -> dict[str, list[Example]]:
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
                label=(lambda example: example.label) if classes else None,
            )
            notes.append(f"{split}: {len(splits[split])} rows carved from train by content hash")
    return {split: splits[split] for split in ("train", "validation", "test")}


def _fingerprint(settings: TaskSettings, files: Mapping[str, Path], columns: Columns, kind: str) -> str:
    """Hash the files' content and whatever of the settings decides which examples come out of them."""
    contents = {split: fingerprint_path(file, cache_folder()) for split, file in files.items()}
    read_as = [asdict(columns), kind, settings.train_rows, settings.validation_share, settings.on_bad_row]
    return hash_json([contents, read_as])
