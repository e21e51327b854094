"""Text files as numbered lines, strictly UTF-8, plain or gzip.

In: a path, or a stream. Out: (line number from 1, line without its line end). A byte order mark of UTF-8 is dropped; both ``\\n``
and ``\\r\\n`` end a line. No encoding is guessed: UTF-16, UTF-32 and whatever is no UTF-8 are refused. Whatever keeps the file
from being read to its end is a ValueError that names file and line and says what to do.
"""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

LONGEST = 1 << 28  # bytes of a line that is read whole; memory holds it a few times over
# What a file may be that begins with these bytes; the longer ones first, since they begin alike.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

Tell = Callable[[int], None]  # bytes behind


def require_file(path: Path, what: str) -> None:
    """Raise ValueError unless ``path`` is a regular file; ``what`` names the key that holds it."""
    if path.is_dir():
        raise ValueError(f"{what}: {path} is a folder, a file was expected")
    if not path.exists():
        near = [file.name for file in sorted(path.parent.iterdir())[:8]] if path.parent.is_dir() else []
        raise ValueError(f"{what}: {path} does not exist" + (f"; its folder holds {', '.join(near)}" if near else ""))
    if not path.is_file():
        raise ValueError(f"{what}: {path} is not a regular file")


def read_lines(path: Path, tell: Tell | None = None, cut: int | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a text file, one line in memory at a time. Raises ValueError as the module says.

    ``tell`` is called now and then with the bytes of the file that are behind. A line longer than :data:`LONGEST` bytes is
    refused; with ``cut``, one longer than ``cut`` bytes comes in parts of the same number, cut at spaces where it has any.
    """
    number, offset = 0, 0
    try:
        with path.open("rb") as stored:
            file = _unpacked(stored, path)
            for number, raw in _whole_lines(file, str(path)) if cut is None else _cut_lines(file, cut):
                yield number, _decode(raw, str(path), path.name, number, offset)
                offset += len(raw)
                if tell is not None and number % 1024 == 0:
                    tell(stored.tell())
    except EOFError:
        raise ValueError(f"{path}:{number + 1}: the gzip file ends too early; fetch or write it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}:{number + 1}: not readable as gzip ({error}); is the name's .gz right?") from None
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror or error})") from None


def read_stream(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a stream such as standard input; ``name`` stands in messages."""
    offset = 0
    for number, raw in _whole_lines(stream, name):
        yield number, _decode(raw, name, "IN", number, offset)
        offset += len(raw)


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO:
    """Return the file's content; the buffer finds lines several times faster than the gzip module does."""
    if not path.name.lower().endswith(".gz"):
        return file
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file, mode="rb")), 1 << 17))


def _whole_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    for number in itertools.count(1):
        raw = file.readline(LONGEST + 1)
        if len(raw) > LONGEST:
            raise ValueError(f"{name}:{number}: a line longer than {LONGEST:,} bytes; is the file what its name says?")
        if not raw:
            return
        yield number, raw


def _cut_lines(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes]]:
    number, raw = 1, file.readline(longest)
    while raw:
        if raw.endswith(b"\n") or len(raw) < longest:
            yield number, raw
            number, raw = number + 1, file.readline(longest)
            continue
        end = raw.rfind(b" ", longest // 2) + 1 or longest - 1
        for _ in range(3):
            end -= end < longest and raw[end] & 0xC0 == 0x80  # not inside a character
        yield number, raw[:end]
        raw = raw[end:] + file.readline(longest - len(raw) + end)


def _decode(raw: bytes, name: str, file: str, number: int, offset: int) -> str:
    if offset == 0:
        for mark, encoding in _MARKS.items():
            if raw.startswith(mark):
                raise ValueError(f"{name}:1: the file is {encoding}, not UTF-8; convert it: {_conversion(encoding, file)}")
        if raw.startswith(b"\x1f\x8b"):
            raise ValueError(f"{name}:1: the file is gzip; give its name the ending .gz")
    try:
        line = raw.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at offset {offset + error.start}); save the file "
            f"as UTF-8, for example: {_conversion(_likely(raw), file)}"
        ) from None
    return line.rstrip("\n").removesuffix("\r")


def _conversion(encoding: str, file: str) -> str:
    """Return the command that makes a file UTF-8."""
    if file.lower().endswith(".gz"):
        return f"gzip -cd {file} | iconv -f {encoding} -t UTF-8 | gzip > new.gz"
    return f"iconv -f {encoding} -t UTF-8 {file} > new"


def _likely(raw: bytes) -> str:
    """Name the encoding to try first with a line that is no UTF-8: GB18030 where that reads Chinese, else Latin-1.

    A suggestion for a message; nothing is read by it.
    """
    try:
        letters = [character for character in raw[:4096].decode("gb18030", errors="strict") if ord(character) > 127]
    except UnicodeDecodeError:
        return "LATIN1"
    return (
        "GB18030" if len(letters) > 1 and all("\u3000" <= each <= "\u9fff" or each > "\uff00" for each in letters) else "LATIN1"
    )
