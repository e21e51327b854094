"""A stream in a study: tasks one after the other, where each stage starts from the model that the one before it left.

In: a stage of study.yaml with ``stream: {tasks, arms}``. Out: :class:`Stream`, ordinary runs chained by ``init_from``: finished
ones are skipped and a killed one resumes like any other. Every run probes every task of the stream, which is what the matrix of
scores is read from. What goes on is ``models/pre`` where a run makes one, else ``models/ft``; an arm may say otherwise. Leaves
out the numbers (measures/continual.py) and their tables (reports/stream_tables.py). Torch-free.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tofro.config.compose import compose
from tofro.config.errors import ConfigError
from tofro.config.identity import data_name
from tofro.runs.planning import Planned, Roster, floors_beside, grid_of, named, quoted
from tofro.runs.study_file import Study

PROBE_ROWS = 2000  # training rows that a probe uses at most (measures/probes.py: ROWS), the same ones out of any larger choice
UNCHECKED = ("name", "path", "max_length", "train_rows")  # a probe's examples don't depend on these, or they are checked apart
ON_TEST = ("validation_rows",)  # nor on these, as long as probes are scored on test


@dataclass(frozen=True)
class Chain:
    """One arm and seed: a run per task, each from the one before."""

    arm: str
    goes_on: str | None  # pre or ft; None is pre where a run makes one, else ft
    runs: tuple[Planned, ...]

    @property
    def start(self) -> str:
        """What the first run starts from, as its identity has it."""
        return str(self.runs[0].identity.full["init_from"])


@dataclass(frozen=True)
class Stream:
    """A stage's chains and its tasks: the name in the study file, and the name that probes of it carry."""

    stage: str
    tasks: tuple[tuple[str, str], ...]
    chains: tuple[Chain, ...]

    def as_json(self, home: Path) -> dict[str, Any]:
        """What a report must know, for study.json in ``home``."""
        return {
            "stage": self.stage,
            "tasks": [{"name": name, "data": data} for name, data in self.tasks],
            "chains": [
                {
                    "arm": chain.arm,
                    "start": chain.start,
                    "seed": chain.runs[0].config.seed,
                    "goes_on": chain.goes_on,
                    "runs": [run.listed(home) for run in chain.runs],
                }
                for chain in self.chains
            ],
        }


@dataclass(frozen=True)
class Arm:
    """How every stage of a chain is made."""

    name: str
    overrides: tuple[str, ...]
    goes_on: str | None = None


def plan_stream(roster: Roster, name: str, starts: Sequence[Planned | None], overrides: list[str]) -> Stream:
    """Add every run of a stream to ``roster``, floors beside the stages' first ones, and return the stream."""
    study = roster.study
    stage = study.stages[name]
    tasks = {task: given if given is not None else [f"task={task}"] for task, given in stage["stream"]["tasks"].items()}
    chains: list[Chain] = []
    known: dict[tuple[str, ...], tuple[tuple[str, ...], list[list[str]]]] = {}  # what is probed, which is the same for every seed
    data: tuple[str, ...] = ()
    own = list(stage.get("overrides") or [])
    for start, grid, arm in itertools.product(starts, list(grid_of(stage)), _arms(stage)):
        # the narrower comes later: the study, the stage, the grid, the arm, the task, the command line
        before, after = [*study.shared, *own, *grid, *arm.overrides], overrides
        decides = (str(arm.goes_on), *(text for text in before if not text.startswith("seed=")))
        if decides not in known:
            stages = [[*before, *task, *after] for task in tasks.values()]
            with named(study, name):
                known[decides] = _probes(f"{study.path}: stages.{name}.stream", stages, arm)
        data, probes = known[decides]
        folder = start.folder if start is not None else None
        runs: list[Planned] = []
        for task, probed in zip(tasks.values(), probes, strict=True):
            run = roster.add(name, folder, [*before, *task, *probed, *after])
            runs.append(run)
            folder = run.folder / "models" / arm.goes_on if arm.goes_on else run.folder
        for floor, needs_start in _floors(study, [*own, *grid], tasks.values(), start):
            roster.add(name, start.folder if needs_start and start else None, floor + overrides)
        others = [text for text in grid if not text.startswith("seed=")]
        chains.append(Chain(", ".join([arm.name, *others]), arm.goes_on, tuple(runs)))
    return Stream(name, tuple(zip(tasks, data, strict=True)), tuple(chains))


def _arms(stage: dict[str, Any]) -> Iterator[Arm]:
    for name, given in stage["stream"]["arms"].items():
        whole = given if isinstance(given, dict) else {"overrides": given}
        yield Arm(str(name), tuple(whole["overrides"]), whole.get("goes_on"))


def _floors(study: Study, combination: list[str], tasks: Any, start: Planned | None) -> Iterator[tuple[list[str], bool]]:
    for task in tasks:
        for floor, needs_start in floors_beside(study, [*combination, *task], start):
            yield [*study.shared, *floor], needs_start


def _probes(where: str, stages: list[list[str]], arm: Arm) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the names of the stages' tasks, and for each stage the overrides with which its run probes all of them.

    What a stage left is measured as the start of the next one; of the last stage ``ft`` is measured too where it may go on.

    ValueError where a task that is trained on would be another one when it is probed from another stage.
    """
    configs = [compose(overrides) for overrides in stages]
    names = [data_name(config.task) for config in configs]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}.tasks: two tasks are called {_repeated(names)}; give one a task.name")
    lengths = sorted({config.task.max_length for config in configs})
    if len(lengths) > 1:
        raise ValueError(
            f"{where}.tasks: task.max_length is {lengths[0]} and {lengths[-1]}; probes of all stages need one, in shared"
        )
    for config in configs:
        _check_probed(where, config)
    paths = {name: config.task.path for name, config in zip(names, configs, strict=True) if config.task.path is not None}
    if paths and "tasks" not in configs[0].method:
        raise ValueError(f"{where}.tasks: {next(iter(paths))} is read from a path, and method.tasks is not there to probe it")
    named = [name for name in names if name not in paths]
    probes = [_probing(config, name, named, paths) for config, name in zip(configs, names, strict=True)]
    if arm.goes_on != "pre" and "measure_ft" in configs[-1].method:
        probes[-1].append("method.measure_ft=true")
    return tuple(names), probes


def _probing(config: DictConfig, own: str, named: list[str], paths: dict[str, str]) -> list[str]:
    probes = dict.fromkeys([*config.method.probes, *named])
    overrides = [f"method.probes=[{','.join(map(quoted, probes))}]"]
    others = [path for name, path in paths.items() if name != own]
    if others:
        files = dict.fromkeys([*config.method.tasks, *others])
        overrides.append(f"method.tasks=[{','.join(map(quoted, files))}]")
    return overrides


def _check_probed(where: str, config: DictConfig) -> None:
    """Refuse a task whose probe from another stage would see other examples: that one reads it as its file or preset has it."""
    task = config.task
    as_it_stands = [f"task={task.name}"] if task.path is None else ["task=file", f"task.path={quoted(task.path)}"]
    try:
        alone = _composed_task(tuple(as_it_stands))
    except ConfigError:
        raise ValueError(
            f"{where}.tasks: {task.name} is no task of conf/task and has no path, so other stages can't probe it"
        ) from None
    own = f"would hold for {data_name(task)} in its own stage alone"
    if data_name(task) != data_name(alone):
        raise ValueError(f"{where}.tasks: task.name={task.name} {own}; leave it out")
    unchecked = UNCHECKED if config.method.get("split") == "validation" else (*UNCHECKED, *ON_TEST)
    for key in task:
        if key not in unchecked and task[key] != alone.get(key):
            raise ValueError(f"{where}.tasks: task.{key}={task[key]} {own}, not where others probe it; leave it out")
    rows = config.method.get("probe_rows", PROBE_ROWS)
    if task.train_rows is not None and task.train_rows < rows:
        raise ValueError(
            f"{where}.tasks: task.train_rows={task.train_rows} {own}: elsewhere a probe takes {rows} rows; "
            f"leave it out, or let probes take fewer (method.probe_rows)"
        )


@lru_cache(maxsize=64)
def _composed_task(overrides: tuple[str, ...]) -> DictConfig:
    task: DictConfig = compose(list(overrides)).task
    return task


def _repeated(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
