"""Content hashes: of a file, of a folder, of a text. They name data in run identities and decide who is held out.

In: a path, a glob or strings. Out: a sha256 in hex, or a number in [0, 1) that depends on the strings alone. File hashes are
remembered in one JSON file by size and modification time, so that naming a large corpus again costs one ``stat``.
"""

from __future__ import annotations

import glob
import hashlib
import json
import time
from pathlib import Path

from tofro.text.cache import write_cache

DATA_SUFFIXES = (".txt", ".jsonl", ".csv", ".tsv", ".txt.gz", ".jsonl.gz", ".csv.gz", ".tsv.gz", ".parquet", ".arrow")
_SETTLED_NS = 2_000_000_000  # a file touched less than this ago may change again within one tick of its time stamp


def fingerprint_path(path: str | Path, cache_folder: Path | None = None, suffixes: tuple[str, ...] | None = DATA_SUFFIXES) -> str:
    """Return the sha256 of what a file, a folder or a glob's files hold.

    A file counts by its bytes alone, a folder by the names and bytes of the files in it and its subfolders whose name ends with
    one of ``suffixes`` (None: of all files directly inside it but hidden ones), a glob by those of the files that match.
    ``cache_folder`` keeps the hashes between calls; None hashes afresh.

    Raises ValueError where the path is missing, the folder has no such file, or nothing matches.
    """
    path = Path(path).expanduser().absolute()
    known = _read_known(cache_folder)
    before = dict(known)
    if path.is_dir():
        files = _files_in(path, suffixes)
        if not files:
            raise ValueError(f"{path}: the folder holds no data file ({', '.join(suffixes) if suffixes else 'any name'})")
        result = _hash_files(path, files, known)
    elif not path.exists() and glob.has_magic(str(path)):
        files = match_glob(str(path))
        if not files:
            raise ValueError(f"{path}: no file matches")
        result = _hash_files(next(folder for folder in path.parents if not glob.has_magic(str(folder))), files, known)
    elif path.is_file():
        result = _hash_file(path, known)
    else:
        raise ValueError(f"{path}: no such file or folder")
    if cache_folder is not None and known != before:
        write_cache(cache_folder / "fingerprints.json", json.dumps(known, indent=0, sort_keys=True))
    return result


def match_glob(pattern: str) -> list[Path]:
    """Return the files that match a glob (``**`` for any depth), sorted by path; hidden ones do not."""
    return sorted(path for path in map(Path, glob.iglob(str(Path(pattern).expanduser()), recursive=True)) if path.is_file())


def hash_json(value: object) -> str:
    """Return the sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def share_of(*texts: str | None) -> float:
    """Return a number in [0, 1), uniform over texts and fixed for each: texts below a share are the ones held out."""
    joined = "\0".join(text or "" for text in texts)
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:6], "big") / 2**48


def _files_in(folder: Path, suffixes: tuple[str, ...] | None) -> list[Path]:
    """Return the files that count, sorted by path."""
    if suffixes is None:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = (path for path in folder.rglob("*") if path.name.lower().endswith(suffixes) and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _hash_files(root: Path, files: list[Path], known: dict[str, list[object]]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(root).as_posix()}\0{_hash_file(file, known)}\n".encode())
    return whole.hexdigest()


def _read_known(cache_folder: Path | None) -> dict[str, list[object]]:
    """Return path -> [size, mtime_ns, sha256]; a damaged file counts as empty, for it can only save time."""
    if cache_folder is None:
        return {}
    try:
        known = json.loads((cache_folder / "fingerprints.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _hash_file(path: Path, known: dict[str, list[object]]) -> str:
    status = path.stat()
    entry = known.get(str(path))
    if isinstance(entry, list) and entry[:2] == [status.st_size, status.st_mtime_ns] and isinstance(entry[-1], str):
        return entry[-1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        known[str(path)] = [status.st_size, status.st_mtime_ns, digest]
    return digest
