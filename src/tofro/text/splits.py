"""Which files are which split of a task, and what is carved from train where a split is missing.

In: a folder, a file or a glob, or rows with a hash share each. Out: files by split, or two lists of rows. Carving goes by
content, so it is the same for every seed and machine, and equal texts stay on one side.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from tofro.text.files import VALIDATION_NAMES, files_of_split, is_data, split_of
from tofro.text.fingerprint import match_glob
from tofro.text.lines import require_file
from tofro.text.reader import SUFFIXES

NAMES = {"train": ("train",), "validation": VALIDATION_NAMES, "test": ("test",)}
ENDINGS = tuple(f"{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz"))

T = TypeVar("T")


def find_splits(given: str | Path, key: str = "task.path") -> dict[str, list[Path]]:
    """Return the files of each split that there is, sorted by name.

    A single file is ``train``. In a folder a split is its file (train.jsonl), its numbered files (train-00000-of-00002.parquet)
    or all files of the folder of its name. Of a glob's files those called validation or test are that; all others are train.
    Raises ValueError where train is missing.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        found = {split: files_of_split(path, stems, ENDINGS, key) for split, stems in NAMES.items()}
    elif not path.exists() and glob.has_magic(str(given)):
        found = _match(str(given), key)
    else:
        require_file(path, key)
        found = {"train": [path]}
    if not found["train"]:
        names = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
        raise ValueError(
            f"{key}: the folder {path} has no train file ({', '.join(SUFFIXES)}, also .gz); it holds {names}; "
            f"to read other names, write them as a glob: '{path}/*.csv'"
        )
    return {split: files for split, files in found.items() if files}


def _match(given: str, key: str) -> dict[str, list[Path]]:
    files = [file for file in match_glob(given) if is_data(file, ENDINGS)]
    if not files:
        raise ValueError(f"{key}: no file that ends in {', '.join(SUFFIXES)} (or .gz) matches {given}")
    held_out = ("validation", "test")
    words = tuple(stem for split in held_out for stem in NAMES[split])
    found = {split: [file for file in files if split_of(file, words) in NAMES[split]] for split in held_out}
    train = [file for file in files if not any(file in each for each in found.values())]
    if not train:
        raise ValueError(f"{key}: all files that match {given} are called validation or test; there is none to train on")
    return {"train": train, **found}


def carve(
    rows: Sequence[T], share: float, position: Callable[[T], float], labels: Callable[[T], Collection[Hashable]]
) -> tuple[list[T], list[T]]:
    """Split rows into (kept, held out): those whose ``position`` in [0, 1) is below ``share`` are held out.

    At least one row is held out, and every label keeps a row: a label found only among the rows held out moves back whole.
    ``labels`` returns those of a row: one, none in regression, several where words have tags. Raises ValueError where neither
    side can be given a row.
    """
    positions = [position(row) for row in rows]
    lowest = min(positions, default=0.0)
    out = [value < share or value == lowest for value in positions]
    kept_labels = {label for row, away in zip(rows, out, strict=True) if not away for label in labels(row)}
    out = [away and kept_labels.issuperset(labels(row)) for row, away in zip(rows, out, strict=True)]
    kept = [row for row, away in zip(rows, out, strict=True) if not away]
    held_out = [row for row, away in zip(rows, out, strict=True) if away]
    if not kept or not held_out:
        raise ValueError(
            f"{len(rows)} training rows are too few to hold some out; add rows, or give a validation and a test file"
        )
    return kept, held_out
