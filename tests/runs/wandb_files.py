"""What a run of wandb left behind, read from its file without wandb's own reader, which is part of a program for syncing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32_768, 7  # the file is a log of LevelDB's: blocks, and in them fragments of records
MAGIC = b":W&B"
PATIENCE = 10.0  # seconds


@dataclass
class Kept:
    """One run: who it is, its rows by step, its summary, and how it ended (None where it did not)."""

    id: str = ""
    name: str = ""
    group: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_kept(folder: Path) -> Kept:
    """Return what the one ``.wandb`` file of a run's folder holds, once wandb's own process has written the end."""
    deadline = time.monotonic() + PATIENCE
    while (kept := _read(folder)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return kept


def _read(folder: Path) -> Kept:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    kept = Kept()
    for content in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            kept.id, kept.name = record.run.run_id, record.run.display_name
            kept.group, kept.project = record.run.run_group, record.run.project
            kept.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            kept.rows.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            kept.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "exit":
            kept.exit_code = record.exit.exit_code
    return kept


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _records(data: bytes) -> list[bytes]:
    if not data.startswith(MAGIC):  # nothing has been written yet
        return []
    place, found, part = HEADER, [], b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # what is left of a block is padding
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # whole, or the last fragment
            found.append(part)
            part = b""
    return found
