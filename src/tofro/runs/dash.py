"""``tofro dash``: TensorBoard over the runs under a folder, at 127.0.0.1, live while they run.

In: a folder. Out: a server that ends with Ctrl-C. metrics.jsonl is the truth, and every run has one, whatever its logger: the
files are mirrored into event files in a temporary folder, and read on as they grow. Leaves out what finished runs measured, which
`tofro report` shows. Torch-free, so that it starts in a moment.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tofro.runs.events import EventFile, check_installed
from tofro.runs.signals import Stopped, listening

HOST = "127.0.0.1"
EVERY = 2  # seconds between two looks at the files, and between two of TensorBoard's at its own
PORTS = 100  # tried one after the other
HIGHEST = 65_535
RECORD = "metrics.jsonl"
NO_RUNS = ("cache", "models", "checkpoints", "wandb", "tensorboard")  # folders that hold none


@dataclass
class Copy:
    """How far a record has been copied: so many bytes, and the last line of them, by which a file that was cut back is known."""

    events: EventFile
    copied: int = 0
    last: bytes = b""


class Mirror:
    """Event files of all runs under a folder; ``refresh`` brings them up to date."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source = source
        self.target = target
        self.copies: dict[Path, Copy] = {}

    def refresh(self) -> int:
        """Copy what is new, and forget runs whose folders have gone. Returns the number of runs."""
        found = list(records_under(self.source))
        for gone in set(self.copies) - set(found):
            self._forget(gone)
        for record in found:
            try:
                self._follow(record)
            except OSError:  # it went while it was read
                self._forget(record)
        return len(self.copies)

    def _place(self, record: Path) -> Path:
        """Return the folder of a run's events; TensorBoard calls the run by its path."""
        name = record.parent.relative_to(self.source)
        return self.target / (name if name.parts else self.source.resolve().name or "run")

    def _forget(self, record: Path) -> None:
        if record in self.copies:
            del self.copies[record]
            shutil.rmtree(self._place(record), ignore_errors=True)

    def _follow(self, record: Path) -> None:
        """Copy a record's new lines. A torn last line waits for its end; a file cut back by a resume is copied anew."""
        if record not in self.copies:
            self.copies[record] = Copy(EventFile(self._place(record)))
        copy = self.copies[record]
        with record.open("rb") as file:
            written = os.fstat(file.fileno()).st_mtime
            file.seek(copy.copied - len(copy.last))
            if file.read(len(copy.last)) != copy.last:
                copy.events.restart(written)
                copy.copied, copy.last = 0, b""
                file.seek(0)
            new, newline, _ = file.read().rpartition(b"\n")
        if newline:
            lines = new.split(b"\n")
            copy.events.write([row for line in lines if (row := read_row(line, record)) is not None], written)
            copy.copied += len(new) + 1
            copy.last = lines[-1] + b"\n"


def records_under(folder: Path) -> Iterator[Path]:
    """Yield the record of every run under a folder, which may be a run's own."""
    for place, folders, files in os.walk(folder):
        if RECORD in files:
            folders.clear()
            yield Path(place) / RECORD
        else:
            folders[:] = sorted(name for name in folders if name not in NO_RUNS and not name.startswith("."))


def read_row(line: bytes, record: Path) -> dict[str, Any] | None:
    """Return a line as a row; one that is no row is left out, and said so."""
    try:
        row = json.loads(line)
        measured = {name: value for name, value in row.items() if isinstance(value, int | float)}
        return measured | {"step": int(row["step"]), "seconds": float(row["seconds"])}
    except (ValueError, TypeError, KeyError, AttributeError):
        print(f"tofro: {record}: left out a line that is no row of numbers: {line[:60]!r}", file=sys.stderr, flush=True)
        return None


def serve(folder: Path, port: int) -> None:
    """Show the runs under ``folder`` until a stop signal comes. ValueError where there is no such folder or no free port."""
    check_installed("tofro dash")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give one that holds runs, such as an outputs_dir")
    if not 0 <= port <= HIGHEST:
        raise ValueError(f"--port={port}: a port is a number from 0 to {HIGHEST}")
    with tempfile.TemporaryDirectory(prefix="tofro-dash-", ignore_cleanup_errors=True) as place:
        mirror = Mirror(folder, Path(place))
        try:
            with listening():
                count = sum(1 for _ in records_under(folder))
                print(f"{count} runs under {folder}: {launch(Path(place), port)}  (Ctrl-C ends it)", flush=True)
                while True:  # many runs come one after the other
                    mirror.refresh()
                    time.sleep(EVERY)
        except Stopped:  # the way out
            return


def launch(place: Path, port: int) -> str:
    """Start TensorBoard in threads that end with this process; return its address."""
    from tensorboard import program
    from tensorboard.util import tb_logging

    tb_logging.get_logger().setLevel(logging.CRITICAL)
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # a line for every request
    for each in range(port, min(port + PORTS, HIGHEST + 1)) if port else (0,):
        board = program.TensorBoard()
        where = ["--logdir", str(place), "--host", HOST, "--port", str(each)]
        board.configure(
            ("tofro dash", *where, "--reload_interval", str(EVERY), "--load_fast", "false", "--window_title", "tofro")
        )
        try:
            return str(board.launch())
        except program.TensorBoardPortInUseError:
            continue
    raise ValueError(f"--port={port}: it and those after it are taken; give another one, or 0 for any")
