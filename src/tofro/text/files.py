"""Files of a corpus: which ones a path means, and how documents lie in each kind.

In: a file, a folder with train and validation files, or a glob. Out: sources of raw documents (documents.py).

    .txt      one sentence or paragraph a line, a blank line between documents
    .jsonl    one document a row: a string, whose lines are its sentences or paragraphs, or a list of sentences
    .parquet  the same, in a column (extra `hub`)

Text and JSON lines may be packed with gzip.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from tofro.text.documents import LONGEST_LINE, Raw, Reading, Source, cut_line
from tofro.text.fingerprint import match_glob
from tofro.text.lines import Tell, read_lines, require_file
from tofro.text.reader import Rows, missing_column, unfit

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")
VALIDATION_NAMES = ("validation", "valid", "val", "dev")
KEY = "corpus.path"


@dataclass(frozen=True)
class TextFile:
    """Documents between blank lines."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def size(self) -> int:
        """Return the bytes of the file."""
        return self.path.stat().st_size

    def documents(self, reading: Reading) -> Iterator[Raw]:
        """Yield documents; a line longer than memory should hold comes in parts, counted."""
        for _, lines in itertools.groupby(self._lines(reading), key=itemgetter(0)):
            yield Raw(line for _, line in lines)

    def _lines(self, reading: Reading) -> Iterator[tuple[int, str]]:
        """Yield (number of the document, line)."""
        document, latest, cut = 0, 0, 0
        for number, line in read_lines(self.path, told(reading), LONGEST_LINE):
            if "\0" in line:
                raise ValueError(
                    f"{self.path}:{number}: a NUL character; the file is UTF-16 or binary, plain UTF-8 text was expected"
                )
            line = line.strip()
            if line:
                yield document, line
            elif number != latest:  # a blank line, not the blank end of a cut one
                document += 1
            if line and number == latest != cut:
                reading.cut_lines += 1
                cut = number
            latest = number


@dataclass(frozen=True)
class RowFile:
    """Documents in JSON lines."""

    path: Path
    column: str

    def __str__(self) -> str:
        return str(self.path)

    def size(self) -> int:
        """Return the bytes of the file."""
        return self.path.stat().st_size

    def documents(self, reading: Reading) -> Iterator[Raw]:
        """Yield the document of every row. Raises ValueError for a row without the column, or with something else in it."""
        for number, row in Rows(self.path, key=KEY, tell=told(reading)):
            if self.column not in row:
                raise missing_column(self.path, "corpus.text", self.column, row, number)
            yield raw_document(row[self.column], f"{self.path}:{number}", self.column, reading)


def told(reading: Reading) -> Tell:
    """Return a function that takes a file's bytes behind and adds them to what ``reading`` had done before."""
    before = reading.done

    def tell(behind: int) -> None:
        reading.done = before + behind

    return tell


def raw_document(value: Any, place: str, column: str, reading: Reading) -> Raw:
    """Return what a column holds as a raw document; ValueError that names ``place`` where it is neither text nor sentences."""
    whole = isinstance(value, str)
    lines = value.split("\n") if whole else ([] if value is None else value)
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{place}: {column!r} holds {type(value).__name__}, text or a list of sentences was expected")
    for problem in filter(None, map(unfit, lines)):
        raise ValueError(f"{place}: {column!r} holds {problem}")
    stripped = (line.replace("\n", " ").strip() for line in lines)
    return Raw((part for line in stripped if line for part in cut_line(line, reading)), whole)


def open_file(path: Path, column: str) -> Source:
    """Return the source that a file is, by its ending."""
    if path.name.lower().endswith((".txt", ".txt.gz")):
        return TextFile(path)
    if path.name.lower().endswith(".parquet"):
        from tofro.text.hub import ParquetFile

        return ParquetFile(path, column)
    return RowFile(path, column)


def find_files(given: str) -> tuple[list[Path], list[Path]]:
    """Return the train files and the validation files, each sorted by name, that ``given`` means.

    Of a folder, those called train and validation; of a glob, those called validation and all others. Raises ValueError
    where there is no train file, or where one stands there twice.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        train, validation = files_of_split(path, ("train",)), files_of_split(path, VALIDATION_NAMES)
        if not train:
            names = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
            raise ValueError(
                f"{KEY}: the folder {path} has no train file (train.txt, .jsonl, .parquet, ...); it holds {names}; "
                f"to read other names, write them as a glob: '{path}/*.txt'"
            )
        return train, validation
    if not path.exists() and glob.has_magic(given):
        files = [file for file in match_glob(given) if is_data(file)]
        if not files:
            raise ValueError(f"{KEY}: no file that ends in {', '.join(SUFFIXES)} matches {given}")
        validation = [file for file in files if split_of(file) in VALIDATION_NAMES]
        if len(validation) == len(files):
            raise ValueError(f"{KEY}: all files that match {given} are called validation; there is none to train on")
        return [file for file in files if file not in validation], validation
    require_file(path, KEY)
    if not is_data(path):
        raise ValueError(f"{KEY}: {path} ends in none of {', '.join(SUFFIXES)}, so its format is unknown")
    return [path], []


def stem_of(path: Path) -> str:
    """Return a folder's name, or a file's name without its endings; for a split in a folder, or a glob, the folder's name."""
    path = path.absolute()
    if path.is_dir():
        return path.name
    stem = path.name.removesuffix(".gz")
    stem = stem[: stem.rfind(".")] if "." in stem[1:] else stem
    inside = stem in ("train", "test", *VALIDATION_NAMES) or glob.has_magic(stem)
    if inside and path.parent.name and not glob.has_magic(path.parent.name):
        return path.parent.name
    return stem


def is_data(file: Path, endings: tuple[str, ...] = SUFFIXES) -> bool:
    """Say whether a file's name ends as data does and is not hidden."""
    return file.name.lower().endswith(endings) and not file.name.startswith(".")


def split_of(file: Path, held_out: tuple[str, ...] = VALIDATION_NAMES) -> str:
    """Return the word with which a file's name begins: ``train`` of train.txt, train-00000-of-00002.parquet, train/a.txt."""
    stem = re.split(r"[^a-z]", file.name.lower(), maxsplit=1)[0]
    return stem if stem in ("train", *held_out) else file.parent.name.lower()


def files_of_split(folder: Path, stems: tuple[str, ...], endings: tuple[str, ...] = SUFFIXES, key: str = KEY) -> list[Path]:
    """Return the files of one split: its file, its numbered files, or all files of the folder of its name."""
    inside = [file for file in sorted(folder.iterdir()) if file.is_file() and is_data(file, endings)]
    plain = [file for file in inside if file.name.partition(".")[0].lower() in stems]
    if len(plain) > 1:
        raise ValueError(f"{key}: {folder} has both {plain[0].name} and {plain[1].name}; keep one of them")
    numbered = [file for file in inside if (found := re.match(r"([a-z]+)[-_]\d", file.name.lower())) and found[1] in stems]
    folders = [folder / stem for stem in stems if (folder / stem).is_dir()]
    nested = [file for each in folders for file in sorted(each.iterdir()) if file.is_file() and is_data(file, endings)]
    ways = [files for files in (plain, numbered, nested) if files]
    if len(ways) > 1:
        raise ValueError(f"{key}: {folder} has both {ways[0][0].name} and {ways[1][0].relative_to(folder)}; keep one of them")
    return ways[0] if ways else []
