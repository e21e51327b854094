"""Which file is which split of a task, and what is carved from train where a split is missing.

In: a folder or file, or rows with a hash share each. Out: paths by split, or two lists of rows. Carving goes by content, so it
is the same for every seed and machine, and equal texts stay on one side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from tofro.text.lines import require_file
from tofro.text.reader import SUFFIXES

NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}

T = TypeVar("T")


def find_splits(path: Path, key: str = "task.path") -> dict[str, Path]:
    """Return the file of each split that there is; a single file is ``train``. Raises ValueError where train is missing."""
    if not path.is_dir():
        require_file(path, key)
        return {"train": path}
    endings = [suffix + packed for suffix in SUFFIXES for packed in ("", ".gz")]
    found: dict[str, Path] = {}
    for split, stems in NAMES.items():
        files = [file for stem in stems for ending in endings if (file := path / f"{stem}{ending}").is_file()]
        if len(files) > 1:
            raise ValueError(
                f"{key}: {path} has both {files[0].name} and {files[1].name} for the {split} split; keep one of them"
            )
        if files:
            found[split] = files[0]
    if "train" not in found:
        names = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
        raise ValueError(f"{key}: the folder {path} has no train file ({', '.join(SUFFIXES)}, also .gz); it holds {names}")
    return found


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
