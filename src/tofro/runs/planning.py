"""What a study's plan is made of: its file as data, one planned run, a stage's combinations, the floors beside a run.

In: overrides. Out: configs and identities of runs that may not exist yet. Leaves out the file's reading and the running
(study.py) and chains of runs (streams.py). Torch-free.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tofro.config.compose import compose
from tofro.config.identity import Identity
from tofro.runs.run import identify, outputs_of

FLOORS = ("tfidf", "random_encoder")  # the rows that stand beside every classification table


@dataclass
class Study:
    """A study file, read and checked."""

    path: Path
    title: str
    claim: str = ""
    shared: list[str] = field(default_factory=list)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    floors: bool = True
    expect: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The study's folder name, here and under outputs_dir."""
        return self.path.parent.name


@dataclass(frozen=True)
class Planned:
    """One run of a study: the stage it belongs to, the overrides that make its config, and who it is."""

    stage: str
    overrides: tuple[str, ...]
    config: Any
    identity: Identity
    folder: Path


def planned_run(study: Study, stage: str, start: Path | None, overrides: list[str], earlier: dict[Path, Planned]) -> Planned:
    """Return the run that ``overrides`` make; ``start`` is the folder it starts from, which a run of ``earlier`` will make."""
    if start is not None:
        overrides = [f"init_from={quoted(str(start))}", *overrides]
    full = [*overrides, f"study={study.name}", f"stage={stage}"]
    config = compose(full)
    identity = identify(config, {str(folder): each.identity.id for folder, each in earlier.items()})
    return Planned(stage, tuple(full), config, identity, outputs_of(config) / identity.name)


def quoted(text: str) -> str:
    """Quote a value for Hydra's grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def combinations(study: Study, name: str, stage: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the overrides of every combination of a stage's grid, its own overrides after them."""
    for chosen in grid_of(study, name, stage):
        # groups first: `method=...` chooses options that the stage's own keys may then change
        yield [*chosen, *(stage.get("overrides") or [])]


def grid_of(study: Study, name: str, stage: dict[str, Any]) -> Iterator[list[str]]:
    """Yield every combination of a stage's grid as overrides."""
    grid = stage.get("grid") or {}
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{study.path}: stages.{name}.grid.{key} must be a list of values")
    for values in itertools.product(*grid.values()):
        yield [f"{key}={'null' if value is None else value}" for key, value in zip(grid, values, strict=True)]


def floors_beside(study: Study, combination: list[str], start: Planned | None) -> list[tuple[list[str], bool]]:
    """Return the floors beside a run on a task, each with whether it needs the run's start for its tokenizer and architecture."""
    if not study.floors or "method=pretrain" in combination or start is None:
        return []
    task = [text for text in combination if text.split("=", 1)[0].split(".")[0] in ("task", "corpus")]
    seed = [text for text in combination if text.startswith("seed=")]
    return [(["method=tfidf", *task], False), (["method=random_encoder", *task, *seed], True)]
