"""Read what runs left behind: ``result.json`` and ``metrics.jsonl`` of run folders, ``study.json`` of study folders.

In: folders, each a run folder or a folder that holds run folders. Out: a :class:`Collection` of :class:`RunRecord`. Every run
folder that is met ends up in it: finished, unfinished, or counted in a note where a study's plan does not name it. Torch-free.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

RUN_NAME = re.compile(r"^(?P<method>.+?)-(?P<data>.+)-s(?P<seed>\d+)-(?P<id>[0-9a-f]{8})$")
RUN_FILES = ("result.json", "config.yaml", "metrics.jsonl", "environment.json")


@dataclass(frozen=True)
class RunRecord:
    """One run: what ``result.json`` says, or, where ``finished`` is false, what the folder's name says."""

    folder: Path
    id: str
    method: str
    seed: int
    variant: str = ""
    task: str | None = None
    corpus: str | None = None
    study: str = ""
    stage: str | None = None
    score: str | None = None  # name of the primary metric
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)  # dotted keys that bear on the result and differ from their defaults
    command: str = ""
    notes: tuple[str, ...] = ()
    finished: bool = True
    streamed: bool = False  # a later stage of a stream, whose start is no arm's but its own: in the stream's tables alone

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name


@dataclass(frozen=True)
class Curve:
    """One metric over a run: ``steps`` (N,), ``seconds`` (N,) since the start, ``values`` (N,)."""

    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class ChainRecord:
    """One arm and seed of a stream: folders of runs, each from the one before; ``goes_on`` as runs/streams.py has it."""

    arm: str
    start: str
    seed: int
    goes_on: str | None
    runs: tuple[Path, ...]


@dataclass(frozen=True)
class StreamRecord:
    """A stage of a study whose runs are chains; ``tasks`` are pairs of a task's name in the study and in metrics."""

    stage: str
    tasks: tuple[tuple[str, str], ...]
    chains: tuple[ChainRecord, ...]


@dataclass(frozen=True)
class Study:
    """The head of a study's report, from ``study.json``."""

    folder: Path
    title: str
    claim: str = ""
    command: str = ""
    expect: Mapping[str, Any] = field(default_factory=dict)
    streams: tuple[StreamRecord, ...] = ()


@dataclass(frozen=True)
class Collection:
    """Every run under the folders, finished ones in plan order."""

    runs: tuple[RunRecord, ...]
    unfinished: tuple[RunRecord, ...] = ()
    studies: tuple[Study, ...] = ()
    notes: tuple[str, ...] = ()


def collect(folders: Sequence[Path]) -> Collection:
    """Return every run under ``folders``; a folder met twice counts once.

    Raises ValueError, naming the file, where a folder is missing, holds no run, or holds a malformed file.
    """
    found: dict[Path, RunRecord] = {}
    studies: list[Study] = []
    notes: list[str] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; give a run folder or a folder of runs, outputs/quickstart for example")
        paths = _run_folders(folder, studies, notes)
        if not paths:
            raise ValueError(f"{folder}: holds no run folder (none with a {' or '.join(RUN_FILES[:2])})")
        for path in paths:
            found.setdefault(path.resolve(), read_run(path))
    later = {path.resolve() for study in studies for each in study.streams for chain in each.chains for path in chain.runs[1:]}
    found = {path: replace(run, streamed=path in later) for path, run in found.items()}
    runs = tuple(run for run in found.values() if run.finished)
    unfinished = tuple(run for run in found.values() if not run.finished)
    return Collection(runs, unfinished, tuple(studies), tuple(notes))


def _run_folders(folder: Path, studies: list[Study], notes: list[str]) -> list[Path]:
    if _is_run(folder):
        return [folder]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path))
    plan = folder / "study.json"
    if not plan.exists():
        children = [] if inside else sorted(path for path in folder.iterdir() if path.is_dir())
        return inside + [path for child in children for path in _run_folders(child, studies, notes)]
    study, planned = _read_study(plan)
    studies.append(study)
    names = {path.resolve() for path in planned}
    strangers = [path.name for path in inside if path.resolve() not in names]
    if strangers:
        notes.append(
            f"{len(strangers)} run folder(s) in {folder.name} are not in the study's plan and are left out: "
            + ", ".join(strangers)
        )
    return planned


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in RUN_FILES)


def _read_study(path: Path) -> tuple[Study, list[Path]]:
    content = _read_object(path)
    runs = content.get("runs", [])
    if not isinstance(runs, list) or not all(isinstance(name, str) for name in runs):
        raise ValueError(f"{path}: `runs` must be a list of folder names")
    expect = content.get("expect") or {}
    if not isinstance(expect, dict):
        raise ValueError(f"{path}: `expect` must be an object of name and expected figure")
    study = Study(
        path.parent,
        str(content.get("title") or path.parent.name),
        str(content.get("claim") or ""),
        str(content.get("command") or ""),
        expect,
        tuple(_read_stream(path, entry) for entry in content.get("streams") or ()),
    )
    return study, [path.parent / name for name in runs]


def _read_stream(path: Path, entry: Any) -> StreamRecord:
    try:
        tasks = tuple((str(task["name"]), str(task["data"])) for task in entry["tasks"])
        chains = tuple(
            ChainRecord(
                str(chain["arm"]),
                str(chain["start"]),
                int(chain["seed"]),
                chain["goes_on"],
                tuple(path.parent / name for name in chain["runs"]),
            )
            for chain in entry["chains"]
        )
        stream = StreamRecord(str(entry["stage"]), tasks, chains)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: `streams` is malformed ({error!r}); run the study again, which writes it anew") from None
    if any(len(chain.runs) != len(tasks) for chain in chains):
        raise ValueError(f"{path}: `streams` holds a chain of other than {len(tasks)} runs; run the study again")
    return stream


def read_run(folder: Path) -> RunRecord:
    """Return the run in ``folder``; without ``result.json`` it is unfinished and known by its folder's name alone."""
    path = folder / "result.json"
    if not path.exists():
        match = RUN_NAME.match(folder.name)
        if match is None:
            return RunRecord(folder, "", folder.name, 0, finished=False)
        return RunRecord(folder, match["id"], match["method"], int(match["seed"]), task=match["data"], finished=False)
    content = _read_object(path)
    for key, kind in (("id", str), ("method", str), ("seed", int), ("metrics", dict)):
        if not isinstance(content.get(key), kind):
            raise ValueError(f"{path}: `{key}` is missing or no {kind.__name__}; move the folder away and run it again")
    return RunRecord(
        folder,
        content["id"],
        content["method"],
        content["seed"],
        variant=str(content.get("variant") or ""),
        task=content.get("task"),
        corpus=content.get("corpus"),
        study=str(content.get("study") or ""),
        stage=content.get("stage"),
        score=content.get("score"),
        metrics=_numbers(path, "metrics", content),
        cost=_numbers(path, "cost", content),
        lineage=content.get("lineage") or {},
        versions=content.get("versions") or {},
        machine=content.get("machine") or {},
        config=content.get("config") or {},
        command=str(content.get("command") or ""),
        notes=tuple(map(str, content.get("notes") or ())),
    )


def _numbers(path: Path, key: str, content: Mapping[str, Any]) -> dict[str, float]:
    """The numbers under ``key``; null means not measured."""
    entries = {name: value for name, value in (content.get(key) or {}).items() if value is not None}
    for name, value in entries.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{path}: `{key}` holds {value!r} for `{name}`, which is no number")
    return {name: float(value) for name, value in entries.items()}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: truncated or malformed ({error}); delete it and run the command again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a JSON object")
    return content


def read_curves(run: RunRecord, names: Sequence[str] = ()) -> dict[str, Curve]:
    """Return the curves in ``metrics.jsonl`` by metric name, those of ``names`` or all; without the file, none.

    A torn last line is what a run in progress looks like and is passed over there; anywhere else it is a ValueError.
    """
    path = run.folder / "metrics.jsonl"
    if not path.exists():
        return {}
    rows: dict[str, list[tuple[float, float, float]]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step, seconds = row["step"], row.get("seconds", float("nan"))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            if number == len(lines) and not run.finished:
                break
            raise ValueError(f"{path}:{number}: malformed line ({error})") from error
        for name, value in row.items():
            if (name in names if names else "/" in name) and isinstance(value, int | float):
                rows.setdefault(name, []).append((step, seconds, value))
    return {name: Curve(*np.asarray(points, dtype=float).T) for name, points in rows.items()}
