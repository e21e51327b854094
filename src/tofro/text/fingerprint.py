"""Content hashes: of a file, of a folder, of a text. They name data in run identities and decide who is held out.

In: a path or strings. Out: a sha256 in hex, or a number in [0, 1) that depends on the strings alone. File hashes are remembered
in one JSON file by size and modification time, so that naming a large corpus again costs one ``stat``.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from tofro.text.cache import write_cache

DATA_SUFFIXES = (".txt", ".jsonl", ".csv", ".tsv", ".txt.gz", ".jsonl.gz", ".csv.gz", ".tsv.gz")
_SETTLED_NS = 2_000_000_000  # a file touched less than this ago may change again within one tick of its time stamp


def fingerprint_path(path: str | Path, cache_folder: Path | None = None, suffixes: tuple[str, ...] | None = DATA_SUFFIXES) -> str:
    """Return the sha256 of what a file or folder holds.

    A file counts by its bytes alone, a folder by the names and bytes of the files directly inside it whose name ends with one of
    ``suffixes`` (None: of all files but hidden ones). ``cache_folder`` keeps the hashes between calls; None hashes afresh.

    Raises ValueError where the path is missing or the folder has no such file.
    """
    path = Path(path).expanduser().absolute()
    known = _read_known(cache_folder)
    before = dict(known)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and _counts(file.name, suffixes))
        if not files:
            raise ValueError(f"{path}: the folder holds no data file ({', '.join(suffixes) if suffixes else 'any name'})")
        whole = hashlib.sha256()
        for file in files:
            whole.update(f"{file.name}\0{_hash_file(file, known)}\n".encode())
        result = whole.hexdigest()
    elif path.is_file():
        result = _hash_file(path, known)
    else:
        raise ValueError(f"{path}: no such file or folder")
    if cache_folder is not None and known != before:
        write_cache(cache_folder / "fingerprints.json", json.dumps(known, indent=0, sort_keys=True))
    return result


def hash_json(value: object) -> str:
    """Return the sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def share_of(*texts: str | None) -> float:
    """Return a number in [0, 1), uniform over texts and fixed for each: texts below a share are the ones held out."""
    joined = "\0".join(text or "" for text in texts)
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:6], "big") / 2**48


def _counts(name: str, suffixes: tuple[str, ...] | None) -> bool:
    return not name.startswith(".") and (suffixes is None or name.lower().endswith(suffixes))


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
