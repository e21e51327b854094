"""Text files as numbered lines, strictly UTF-8, plain or gzip.

In: a path. Out: (line number from 1, line without its line end). A byte order mark is dropped; both ``\\n`` and ``\\r\\n`` end
a line. Whatever keeps the file from being read to its end is a ValueError that names file and line and says what to do.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast


def require_file(path: Path, what: str) -> None:
    """Raise ValueError unless ``path`` is a regular file; ``what`` names the key that holds it."""
    if path.is_dir():
        raise ValueError(f"{what}: {path} is a folder, a file was expected")
    if not path.exists():
        near = [file.name for file in sorted(path.parent.iterdir())[:8]] if path.parent.is_dir() else []
        raise ValueError(f"{what}: {path} does not exist" + (f"; its folder holds {', '.join(near)}" if near else ""))
    if not path.is_file():
        raise ValueError(f"{what}: {path} is not a regular file")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a text file, one line in memory at a time. Raises ValueError as the module says."""
    number, offset = 0, 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                yield number, _decode(raw, path, number, offset)
                offset += len(raw)
    except EOFError:
        raise ValueError(f"{path}:{number + 1}: the gzip file ends too early; fetch or write it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}:{number + 1}: not readable as gzip ({error}); is the name's .gz right?") from None
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror or error})") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def _decode(raw: bytes, path: Path, number: int, offset: int) -> str:
    if number == 1:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError(f"{path}:1: the file is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 {path.name} > new")
        if raw.startswith(b"\x1f\x8b"):
            raise ValueError(f"{path}:1: the file is gzip; give its name the ending .gz")
    try:
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at offset {offset + error.start}); save the file "
            f"as UTF-8, for example: iconv -f LATIN1 -t UTF-8 {path.name} > new"
        ) from None
    return line.rstrip("\n").removesuffix("\r")
