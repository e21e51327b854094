"""Rows of metrics.jsonl as TensorBoard's event files: for the tracker ``tensorboard`` and for ``tofro dash``.

In: rows. Out: one file of events in a folder. Its name holds neither the machine's nor the user's, unlike that of TensorBoard's
own writer. Needs the extra tensorboard, imported when the first file is opened. Torch-free.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STAMPS = ("step", "seconds")  # where a row stands, not what was measured


def check_installed(what: str) -> None:
    """Raise ValueError where the extra is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(f"{what} needs the extra tensorboard, which is not installed: pip install 'tofro[tensorboard]'")


def numbers_in(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a row measured: neither its stamps nor a number that is not finite, which is null in metrics.jsonl."""
    return {name: value for name, value in row.items() if name not in STAMPS and value is not None and math.isfinite(value)}


class EventFile:
    """A file of events that grows. It takes the place of those that its folder holds already, for whoever reads them all."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2, summary_pb2
        folder.mkdir(parents=True, exist_ok=True)
        number = sum("tfevents" in path.name for path in folder.iterdir())  # readers go through them by name
        self._path = folder / f"events.out.tfevents.{number:06d}"
        self._began: float | None = None  # when the run's clock stood at 0
        self._add([event_pb2.Event(file_version="brain.Event:2")])
        self.restart(0.0)

    def restart(self, now: float) -> None:
        """Take back all events: the rows come anew."""
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._add([self._event.Event(wall_time=now, step=0, session_log=start)])
        self._began = None

    def write(self, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """Write rows, the last of which was measured at ``now``; an earlier one was by as much earlier as its ``seconds`` say."""
        events = []
        for row in rows:
            if self._began is None:
                self._began = now - rows[-1]["seconds"]
            values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in numbers_in(row).items()]
            summary = self._summary.Summary(value=values)
            events.append(self._event.Event(wall_time=self._began + row["seconds"], step=row["step"], summary=summary))
        self._add(events)

    def _add(self, events: Sequence[Any]) -> None:
        """Add to the file, which is open no longer than that: a dashboard has one for each of many runs."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path.open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())
