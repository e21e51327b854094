"""Tasks: labelled examples in train, validation and test, with their kind and metric resolved.

In: files of splits, or tables of rows, with a column map. Out: a ``Task`` whose three splits are always there and labelled. What
is missing is carved from train by content, never from what is tested on, and ``notes`` says so. Left out: question answering,
which is refused by name; tokens and label ids, which are other rooms'.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tofro.progress import Progress
from tofro.text.cache import cache_folder
from tofro.text.duplicates import drop_leaks, duplicate_notes
from tofro.text.files import stem_of
from tofro.text.fingerprint import fingerprint_path, hash_json, share_of
from tofro.text.reader import Rows, Table
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


@dataclass(frozen=True)
class _Part:
    """The labelled examples of one file."""

    source: Table
    rows: list[Numbered]


def read_task(settings: TaskSettings, progress: Progress | None = None) -> Task:
    """Return the task that ``settings.path`` names. Raises ValueError, with file and line or key, for what can't be used."""
    if settings.path is None:
        raise ValueError(
            "task.path is not set: name a .jsonl, .csv, .tsv (.gz allowed) or .parquet file, a glob, or a folder with train, "
            "validation, test"
        )
    files = find_splits(settings.path)
    tables = {split: [Rows(file, settings.on_bad_row) for file in each] for split, each in files.items()}
    name = settings.name if settings.name != GENERIC_NAME else stem_of(Path(settings.path).expanduser())
    return task_of(settings, name, tables, contents_of(files))


def contents_of(files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """Return the content hash of each split's files."""
    hashes = {split: [fingerprint_path(file, cache_folder()) for file in each] for split, each in files.items()}
    return {split: each[0] if len(each) == 1 else hash_json(each) for split, each in hashes.items()}


def task_of(settings: TaskSettings, name: str, tables: Mapping[str, Sequence[Table]], contents: Mapping[str, str]) -> Task:
    """Return the task of some tables by split, ``train`` among them; ``contents`` are fingerprints of what each split holds."""
    first = tables["train"][0]
    columns = resolve_columns(settings, first)
    words = holds_words(settings, columns, first)
    raw = {split: [read_split(table, split, columns, words) for table in each] for split, each in tables.items()}
    kind = resolve_kind(settings.kind, [row for part in raw["train"] for row in part.rows])
    notes: list[str] = []
    read: dict[str, list[_Part]] = {}
    for split, parts in raw.items():
        if _labelled(split, parts, notes):
            read[split] = [_Part(part.source, _label(part, kind)) for part in parts]
        notes += [note for part in parts for note in _quarantine_note(split, part.source)]
    labels = () if kind == "regression" else _find_labels(read["train"], settings.positive)
    for part in [part for parts in read.values() for part in parts] if labels else ():
        _check_labels(part, labels)
    splits = fewer_rows(_complete(read, settings, notes), settings, labels)
    return Task(
        name=name,
        kind=kind,
        pair=columns.text_b is not None,
        labels=labels,
        metric=resolve_metric(settings.metric, kind, labels),
        splits=splits,
        fingerprint=_fingerprint(settings, contents, columns, kind),
        notes=(*notes, *duplicate_notes(splits)),
    )


def fewer_rows(splits: Mapping[str, list[Example]], settings: TaskSettings, labels: Sequence[str]) -> dict[str, list[Example]]:
    """Return the splits with as many rows to learn from and to validate on as ``settings`` say."""
    train = splits["train"] if settings.train_rows is None else choose_rows(splits["train"], settings.train_rows, labels)
    return {**splits, "train": train, "validation": list(at_most(splits["validation"], settings.validation_rows))}


def at_most(examples: Sequence[Example], count: int | None) -> Sequence[Example]:
    """Return the ``count`` examples that come first by content hash, in their order, or all where there are no more."""
    return examples if count is None or len(examples) <= count else choose_rows(examples, count, ())


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


def _labelled(split: str, parts: Sequence[RawSplit], notes: list[str]) -> bool:
    """Say whether a split has labels; it is noted where it has none, and refused where some of its files have."""
    lacking = [part.source for part in parts if not part.labelled]
    if lacking and len(lacking) < len(parts):
        raise ValueError(f"{lacking[0].name}: has no labels, and other files of the {split} split have; keep one kind")
    if lacking:
        notes.append(f"{split}: {', '.join(source.short for source in lacking)} has no labels, so it is left out")
    return not lacking


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
        raise ValueError(f"{rows.source.name}: no row of the file can be used ({len(rows.source.quarantined)} were set aside)")
    return read


def _value(row: RawRow, kind: str) -> str | float | tuple[str, ...] | None:
    if kind == "tags":
        assert isinstance(row.label, list), "tags are checked with their words"
        return tuple(tag.strip() for tag in row.label)
    return label_name(row.label) if kind == "classification" else _number(row.label)


def label_name(label: object) -> str | None:
    """Return a label as its name; None for what can be none."""
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


def _quarantine_note(split: str, source: Table) -> list[str]:
    lines = sorted(source.quarantined)
    if not lines:
        return []
    shown = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
    return [f"{split}: {len(lines)} bad rows of {source.short} set aside (lines {shown})"]


def _find_labels(train: Sequence[_Part], positive: str | None) -> tuple[str, ...]:
    """Return the names of the labels, sorted, but the positive one last where one is named."""
    labels = sorted({label for part in train for _, example in part.rows for label in example.labels})
    if len(labels) < 2:
        one = "word has the tag" if train[0].rows[0][1].words else "row has the label"
        raise ValueError(
            f"{train[0].source.name}: every training {one} {labels[0]!r}; a task needs at least two labels (see task.label)"
        )
    if positive is not None and positive not in labels:
        raise ValueError(f"task.positive={positive}: no such label; there are {', '.join(map(repr, labels))}")
    return tuple(sorted(labels, key=lambda label: label == positive))


def _check_labels(part: _Part, labels: tuple[str, ...]) -> None:
    known = set(labels)
    for line, example in part.rows:
        for label in example.labels:
            if label not in known:
                near = difflib.get_close_matches(label, labels, n=1)
                shown = ", ".join(map(repr, labels[:12])) + (", ..." if len(labels) > 12 else "")
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{part.source.name}:{line}: label {label!r} never occurs in training, which has {shown}{hint}")


def _complete(read: dict[str, list[_Part]], settings: TaskSettings, notes: list[str]) -> dict[str, list[Example]]:
    """Return all three splits: without a labelled test, validation serves as test; what is missing then is carved from train.

    Leaks are dropped before, so that rows which are carved count as train's still, and after, from what was carved.
    """
    splits = {split: [example for part in parts for _, example in part.rows] for split, parts in read.items()}
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes.append("test: there is no labelled test file, so the validation file serves as test")
    splits = without_leaks(splits, settings, notes)
    for split in ("test", "validation"):
        if split not in splits:
            splits["train"], splits[split] = carve(
                splits["train"],
                settings.validation_share,
                position=lambda example, salt=split: share_of(salt, example.text_a, example.text_b),  # type: ignore[misc]
                labels=lambda example: example.labels,
            )
            notes.append(f"{split}: {len(splits[split])} rows carved from train by content hash")
    splits = without_leaks(splits, settings, notes)
    return {split: splits[split] for split in ("train", "validation", "test")}


def without_leaks(splits: dict[str, list[Example]], settings: TaskSettings, notes: list[str]) -> dict[str, list[Example]]:
    """Return the splits without leaks, and note what was dropped, where ``settings.on_leak`` asks for it."""
    if settings.on_leak == "keep":
        return splits
    kept, dropped = drop_leaks(splits)
    notes += dropped
    return kept


def _fingerprint(settings: TaskSettings, contents: Mapping[str, str], columns: Columns, kind: str) -> str:
    """Hash the files' content and whatever of the settings decides which examples come out of them."""
    read_as = [asdict(columns), kind, settings.train_rows, settings.validation_share, settings.on_bad_row]
    read_as += [] if settings.positive is None else [settings.positive]
    return hash_json([contents, [*read_as, *read_besides(settings)]])


def read_besides(settings: TaskSettings) -> list[object]:
    """Return what a fingerprint holds of keys that came later: nothing of those left alone, so that older prints stay."""
    read: list[object] = [] if settings.on_leak == "keep" else ["on_leak"]
    return read if settings.validation_rows is None else [*read, ["validation_rows", settings.validation_rows]]
