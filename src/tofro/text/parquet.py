"""Parquet files as rows (extra `hub`), and the names of classes that a file or a dataset keeps beside their numbers.

In: a file. Out: (row number from 1, row as a dict), a few rows in memory at a time. Where the file was written by the `datasets`
library, a class number comes out as its name, and a number that stands for no class, such as -1, as None. Left out: what the
columns mean (reader.py, task_rows.py), and documents of a corpus (hub.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tofro.text.extras import first_line, need
from tofro.text.lines import Tell

ROWS = 256  # in memory at a time

ClassNames = dict[str, list[str]]  # by column


def parquet_rows(path: Path, tell: Tell | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a Parquet file; ``tell`` is called with the bytes behind.

    Raises ValueError where the extra is missing, the file is damaged or cut off, or two columns share a name.
    """
    what = f"{path} is Parquet, and reading it"
    arrow, parquet = need("pyarrow", what), need("pyarrow.parquet", what)
    damage = (arrow.ArrowException, OSError, OverflowError, ValueError)  # strings that are no UTF-8 among them
    row, size = 0, path.stat().st_size
    try:
        file = parquet.ParquetFile(path)
    except damage as error:
        raise ValueError(f"{path}: not readable as Parquet ({first_line(error)}); fetch or write it again") from error
    with file:
        columns = file.schema_arrow.names
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise ValueError(f"{path}: two columns share a name: {', '.join(map(repr, repeated))}")
        classes, total = _kept_names(file.schema_arrow.metadata), max(file.metadata.num_rows, 1)
        batches = file.iter_batches(batch_size=ROWS, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            except damage as error:
                raise ValueError(f"{path}: not readable as Parquet after row {row} ({first_line(error)})") from error
            if batch is None:
                return
            for values in rows:
                row += 1
                yield row, with_names(values, classes)
            if tell is not None:
                tell(size * row // total)


def class_names(features: Any) -> ClassNames:
    """Return the names of classes by column, from what ``datasets`` writes of its features; of lists, those of their entries."""
    found: ClassNames = {}
    for column, kind in features.items() if isinstance(features, Mapping) else ():
        inner = kind[0] if isinstance(kind, list) and kind else kind
        inner = inner.get("feature", inner) if isinstance(inner, Mapping) else {}
        names = inner.get("names") if isinstance(inner, Mapping) and inner.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[str(column)] = names
    return found


def with_names(row: dict[str, Any], classes: ClassNames) -> dict[str, Any]:
    """Return a row whose class numbers are names; None for a number that stands for no class."""
    return row | {column: _named(row[column], names) for column, names in classes.items() if column in row}


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else None
    return value


def _kept_names(metadata: Mapping[bytes, bytes] | None) -> ClassNames:
    """Return the names that ``datasets`` left in a file's metadata; without them, or where they are unreadable, none."""
    try:
        return class_names(json.loads((metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}
