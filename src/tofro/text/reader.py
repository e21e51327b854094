"""The one strict reader of tables: JSON lines, CSV and TSV, plain or gzip, and Parquet (extra `hub`).

In: a file. Out: (line number, row as a dict) one at a time; CSV and TSV give strings, JSON lines and Parquet give values. The
first line of CSV and TSV names the columns. CSV follows RFC 4180 quoting; TSV has no quoting: a tab ends a field and a quote is a
quote, as in GLUE's files. Blank lines hold no row. A row that can't be read is refused, or set aside and counted
(``on_bad_row``), never skipped in silence; what spoils the whole file (encoding, a cut gzip, no header) is always refused.
Which columns a task needs is not known here.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tofro.text.lines import Tell, read_lines, require_file
from tofro.text.parquet import parquet_rows

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
EXPLAINED = 3  # bad rows whose reasons are kept where they are set aside

Row = dict[str, Any]


class Table:
    """Rows with their numbers, read afresh by every iteration; what a kind of table adds is :meth:`parse`.

    ``name`` stands in messages. ``quarantined`` holds the numbers of the rows that the latest iteration set aside, ``reasons``
    why the first of them were. Raises ValueError on anything the module names.
    """

    def __init__(self, name: str, on_bad_row: str = "error", key: str = "task.path") -> None:
        assert on_bad_row in ("error", "quarantine"), on_bad_row
        self.name = name
        self.key = key
        self.on_bad_row = on_bad_row
        self.quarantined: list[int] = []
        self.reasons: list[str] = []

    @property
    def short(self) -> str:
        """The name without its folder."""
        return self.name

    def parse(self) -> Iterator[tuple[int, Row]]:
        """Yield (number, row), rejecting what is no row."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        self.quarantined.clear()
        self.reasons.clear()
        empty = True
        for line, row in self.parse():
            if problem := _unusable(row):
                self.reject(line, problem)
                continue
            empty = False
            yield line, row
        if empty:
            bad = f" ({len(self.quarantined)} bad rows were set aside)" if self.quarantined else ""
            raise ValueError(f"{self.name}: the file holds no row{bad}")

    def first(self) -> Row:
        """Return the first good row."""
        before = list(self.quarantined), list(self.reasons)
        _, row = next(iter(self))
        self.quarantined[:], self.reasons[:] = before
        return row

    def columns(self) -> list[str]:
        """Return the names of the columns: the header's, or the keys of the first good row."""
        return list(self.first())

    def reject(self, line: int, reason: str) -> None:
        """Refuse the row at ``line``: raise ValueError, or note it in ``quarantined`` where bad rows are set aside."""
        if self.on_bad_row == "error":
            flag = {"task": "task.on_bad_row=quarantine", "--file": "--on-bad-row quarantine"}.get(self.key.partition(".")[0])
            other = f", or set bad rows aside with {flag}" if flag else ""
            raise ValueError(f"{self.name}:{line}: {reason}; mend the row{other}")
        self.quarantined.append(line)
        if len(self.reasons) < EXPLAINED:
            self.reasons.append(f"line {line}: {reason}")


class Rows(Table):
    """The rows of one file. ``tell`` is called now and then with the bytes of the file that are behind."""

    def __init__(self, path: Path, on_bad_row: str = "error", key: str = "task.path", tell: Tell | None = None) -> None:
        super().__init__(str(path), on_bad_row, key)
        require_file(path, key)
        self.path = path
        self.tell = tell
        parsers: dict[str, Callable[[], Iterator[tuple[int, Row]]]] = {
            ".jsonl": self._json_rows,
            ".csv": self._csv_rows,
            ".tsv": self._tsv_rows,
            ".parquet": lambda: parquet_rows(self.path, self.tell),
        }
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        if suffix not in parsers:
            raise ValueError(
                f"{key}: {path} ends in none of {', '.join(SUFFIXES)} (or the first three with .gz), so its format is unknown"
            )
        self._parse = parsers[suffix]

    @property
    def short(self) -> str:
        """The file's name."""
        return self.path.name

    def parse(self) -> Iterator[tuple[int, Row]]:
        """Yield (line, row) in the file's format."""
        return self._parse()

    def _json_rows(self) -> Iterator[tuple[int, Row]]:
        for line, text in read_lines(self.path, self.tell):
            if not text.strip():
                continue
            try:
                row = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
            except (ValueError, RecursionError) as error:
                self.reject(line, f"malformed JSON ({error})")
                continue
            if isinstance(row, dict):
                yield line, row
            else:
                self.reject(line, f"a JSON object was expected, not {type(row).__name__}")

    def _tsv_rows(self) -> Iterator[tuple[int, Row]]:
        return self._table((line, text.split("\t")) for line, text in read_lines(self.path, self.tell) if text.strip())

    def _csv_rows(self) -> Iterator[tuple[int, Row]]:
        return self._table(self._csv_fields())

    def _csv_fields(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(2**31 - 1)  # the default of 128 KiB would refuse a long document
        records = csv.reader((f"{text}\n" for _, text in read_lines(self.path, self.tell)), strict=True)
        while True:
            line = records.line_num + 1
            try:
                fields = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise ValueError(f"{self.path}:{line}: a quote opened in this row never closes") from None
                if line == 1:
                    raise ValueError(f"{self.path}:1: malformed CSV header ({error})") from None
                self.reject(line, f"malformed CSV ({error})")
                continue
            if fields:
                yield line, fields

    def _table(self, records: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, Row]]:
        """Join records with the header, which is the first of them."""
        header: list[str] | None = None
        for line, fields in records:
            if header is None:
                header = fields
                repeated = sorted({name for name in fields if fields.count(name) > 1})
                if repeated:
                    raise ValueError(f"{self.path}:{line}: the header names a column twice: {', '.join(map(repr, repeated))}")
            elif len(fields) == len(header):
                yield line, dict(zip(header, fields, strict=True))
            else:
                self.reject(line, f"{len(fields)} fields where the header names {len(header)} ({', '.join(header)})")


def missing_column(place: Path | str, key: str, column: str, columns: Iterable[str], line: int = 1) -> ValueError:
    """Return the error for a column that a file lacks: it names the columns there are and the nearest one."""
    columns = list(columns)
    near = difflib.get_close_matches(column, columns, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; set {key} to one of these"
    return ValueError(f"{place}:{line}: no column {column!r} ({key}); there are {', '.join(map(repr, columns))}{hint}")


def _unusable(row: Row) -> str | None:
    """Say what makes a row's strings unusable as text."""
    found = ((name, unfit(value)) for name, value in row.items() if isinstance(value, str))
    return next((f"{name!r} holds {problem}" for name, problem in found if problem), None)


def unfit(text: str) -> str | None:
    """Say what makes a string no text: NUL, or halves of surrogate pairs, which no encoding can hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "half of a surrogate pair, which is no text"
    return "a NUL character; is the file UTF-16 or binary?" if "\0" in text else None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key occurs twice")
    return row
