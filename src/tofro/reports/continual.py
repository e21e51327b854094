"""The matrices of a stream, read from the probes that its runs made.

In: a collection whose study has streams. Out: :class:`StreamArm`, for every chain the matrix A (T + 1, T), A[i, j] the probe of
task j after stage i, of the encoder that goes on. Row 0 is the pretrained encoder. A row is what the next run measured of its
start, so it is surely the model that went on; the last row, and one whose next run is not finished, is what the stage itself
measured of what it left. What was measured nowhere is NaN. Its language, the loss of held-out masked words, is read alike. Leaves
out tables and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tofro.reports.arms import LEAVES_PRE
from tofro.reports.collect import ChainRecord, Collection, RunRecord, StreamRecord


@dataclass(frozen=True)
class Line:
    """One chain, measured: ``matrix`` (T + 1, T), ``baseline`` (T,) of a random encoder, ``trained`` (T,) of ``ft``.

    ``language`` (T + 1,) is the held-out MLM loss of the encoder that goes on, in nats.
    """

    start: str
    seed: int
    runs: tuple[RunRecord | None, ...]  # None where a stage is not finished
    encoders: frozenset[str]  # which of its runs' encoders go on
    matrix: np.ndarray
    baseline: np.ndarray
    trained: np.ndarray
    language: np.ndarray

    @property
    def last(self) -> RunRecord:
        """The last finished run: where a number about the chain leads."""
        return next(run for run in reversed(self.runs) if run is not None)


@dataclass(frozen=True)
class StreamArm:
    """The chains of one arm."""

    name: str
    lines: tuple[Line, ...]

    @property
    def method(self) -> str:
        """The method of its stages."""
        return self.lines[0].last.method

    @property
    def mean(self) -> np.ndarray:
        """The mean matrix over the chains that have an entry, (T + 1, T)."""
        return mean_of([line.matrix for line in self.lines])


@dataclass(frozen=True)
class Stream:
    """A stage's arms over its tasks, by the names that the study gave them."""

    stage: str
    tasks: tuple[str, ...]
    arms: tuple[StreamArm, ...]


def streams_of(collection: Collection) -> list[Stream]:
    """Return every stream of the collection's studies of which at least one stage is finished."""
    by_folder = {run.folder.resolve(): run for run in collection.runs}
    found = []
    for record in (stream for study in collection.studies for stream in study.streams):
        arms: dict[str, list[Line]] = {}
        for chain in record.chains:
            runs = tuple(by_folder.get(folder.resolve()) for folder in chain.runs)
            if any(run is not None for run in runs):
                arms.setdefault(chain.arm, []).append(_line(record, chain, runs, collection.runs))
        if arms:
            tasks = tuple(name for name, _ in record.tasks)
            found.append(Stream(record.stage, tasks, tuple(StreamArm(name, tuple(lines)) for name, lines in arms.items())))
    return found


def _line(record: StreamRecord, chain: ChainRecord, runs: tuple[RunRecord | None, ...], everything: Sequence[RunRecord]) -> Line:
    names = [data for _, data in record.tasks]
    left = [chain.goes_on or goes_on(run) if run is not None else "" for run in runs]
    matrix = np.stack([_after_stages(f"test/probe_{name}", runs, left) for name in names], axis=1)
    trained = [np.nan if run is None else run.metrics.get(run.score or "", np.nan) for run in runs]
    baseline = [_random_score(name, chain.seed, everything) for name in names]
    encoders = frozenset(left) - {""}
    language = _after_stages("validation/mlm_loss", runs, left)
    return Line(chain.start, chain.seed, runs, encoders, matrix, np.array(baseline), np.array(trained), language)


def _after_stages(name: str, runs: Sequence[RunRecord | None], left: Sequence[str]) -> np.ndarray:
    """Return a measure of the encoder that goes on, (T + 1,): the pretrained one first; ``left`` says which one each run left."""
    found = np.full(len(runs) + 1, np.nan)
    for stage, (run, encoder) in enumerate(zip(runs, left, strict=True)):
        if run is not None:
            found[stage] = run.metrics.get(f"{name}_start", found[stage])
            found[stage + 1] = run.metrics.get(f"{name}_{encoder}", np.nan)
    return found


def goes_on(run: RunRecord) -> str:
    """Return from which of a run's encoders the next stage starts by default: ``pre`` where the run made one, else ``ft``."""
    made = next((name for name in ("pre", "ft") if (run.folder / "models" / name).is_dir()), None)
    return made or ("ft" if run.method in LEAVES_PRE else "pre")  # results may have been copied without their models


def _random_score(task: str, seed: int, runs: Sequence[RunRecord]) -> float:
    """Return the probe of a random encoder on a task: of the same seed, else the mean over seeds."""
    name = f"test/probe_{task}_random"
    found = {run.seed: run.metrics[name] for run in runs if name in run.metrics}
    return found.get(seed, float(np.mean(list(found.values()))) if found else float("nan"))


def mean_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of equally shaped arrays, entry by entry over those that have it; NaN where none has."""
    stacked = np.stack(arrays)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
