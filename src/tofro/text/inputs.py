"""What a model is asked about: texts, pairs of texts or lists of words, one at a time, from a file or a stream.

In: a file (text lines, CSV, TSV, JSON lines, Parquet; plain or gzip) or a stream of text lines. Out: :class:`Input` in the file's
order. A blank line or row holds none. Left out: labels, and what is predicted (runs/loaded.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tofro.text.lines import Tell, read_lines, read_stream, require_file
from tofro.text.reader import Row, Rows, missing_column, unfit
from tofro.text.task_rows import Columns, text_problem, word_problem

TEXT_SUFFIXES = (".txt", ".txt.gz")
KEY = "--file"
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff"
# Han characters one by one; letters and digits, also joined by one of the signs in don't, 3.5 and e-mail; any other sign.
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:['’.\-_][^\W_{_HAN}]+)*|[^\w\s]|_")


@dataclass(frozen=True)
class Input:
    """One thing to predict: a text, a pair, or words, which ``text_a`` holds too. ``line`` is where it stood, from 1."""

    text_a: str
    text_b: str | None = None
    words: tuple[str, ...] = ()
    line: int = 0

    @property
    def label(self) -> str:
        """No label: it is asked for."""
        return ""


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a text to be tagged: cut at white space and around signs, each Han character by itself."""
    return tuple(_WORD.findall(text))


def lines_of(lines: Iterable[tuple[int, str]], name: str, tagged: bool) -> Iterator[Input]:
    """Yield the lines that hold text, one input each. ValueError for a line that holds no text but NUL characters, say."""
    for number, line in lines:
        if problem := unfit(line):
            raise ValueError(f"{name}:{number}: the line holds {problem}")
        if line.strip():
            words = split_words(line) if tagged else ()
            yield Input(line.strip(), None, words, number)


class InputFile:
    """The inputs of one file, read afresh by every iteration.

    ``text_a`` and ``text_b`` name columns; None finds them as a task does: text_a or text (or tokens, where words are
    ``tagged``), and text_b where there is one. ``quarantined`` holds the lines that the latest iteration set aside. Raises
    ValueError with file and line for what can't be read.
    """

    def __init__(
        self,
        path: Path,
        tagged: bool = False,
        text_a: str | None = None,
        text_b: str | None = None,
        on_bad_row: str = "error",
        tell: Tell | None = None,
    ) -> None:
        require_file(path, KEY)
        if tagged and text_b:
            raise ValueError(f"--text-b={text_b}: the model tags words of one text, not of pairs")
        self.path, self.tagged, self.tell = path, tagged, tell
        self.rows = None if path.name.lower().endswith(TEXT_SUFFIXES) else Rows(path, on_bad_row, KEY, tell)
        if self.rows is None and (text_a or text_b):
            raise ValueError(f"--text-a, --text-b: {path} holds a text a line and has no columns")
        self.asked = text_a, text_b

    @property
    def quarantined(self) -> list[int]:
        """Lines set aside so far."""
        return [] if self.rows is None else self.rows.quarantined

    @property
    def reasons(self) -> list[str]:
        """Why the first of them were."""
        return [] if self.rows is None else self.rows.reasons

    def __iter__(self) -> Iterator[Input]:
        if self.rows is None:
            yield from lines_of(read_lines(self.path, self.tell), str(self.path), self.tagged)
            return
        columns = self._columns(self.rows.columns())
        for line, row in self.rows:
            words = self.tagged and isinstance(row.get(columns.text_a), list)
            problem = word_problem(row | {columns.label: None}, columns) if words else text_problem(row, columns)
            if problem is None:
                yield self._input(line, row, columns)
            else:
                self.rows.reject(line, problem)

    def _columns(self, there: list[str]) -> Columns:
        text_a, text_b = self.asked
        usual = ("tokens", "text_a", "text") if self.tagged else ("text_a", "text")
        found = text_a or next((name for name in usual if name in there), "text")
        second = text_b or ("text_b" if "text_b" in there and not self.tagged else None)
        for flag, column in (("--text-a", found), ("--text-b", second)):
            if column is not None and column not in there:
                raise missing_column(self.path, flag, column, there)
        return Columns(found, second, label="")

    def _input(self, line: int, row: Row, columns: Columns) -> Input:
        text = row[columns.text_a]
        if isinstance(text, list):
            return Input(" ".join(text), None, tuple(text), line)
        return Input(text, row[columns.text_b] if columns.text_b else None, split_words(text) if self.tagged else (), line)


def read_standard(stream: BinaryIO, tagged: bool = False) -> Iterator[Input]:
    """Yield the lines of standard input that hold text."""
    name = "standard input"
    return lines_of(read_stream(stream, name), name, tagged)
