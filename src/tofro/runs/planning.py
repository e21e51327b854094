"""What a study's plan is made of: one planned run and where it lies, a stage's combinations, the floors beside a run.

In: overrides. Out: configs, identities and folders of runs that may not exist yet. Leaves out the file's reading (study_file.py),
the plan as a whole (study.py) and chains of runs (streams.py). Torch-free.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tofro.config.compose import compose
from tofro.config.errors import is_mistake
from tofro.config.identity import Identity
from tofro.runs.folder import kept_identity, read_result
from tofro.runs.run import identify, outputs_of
from tofro.runs.study_file import Study

FLOORS = ("tfidf", "random_encoder")  # the rows that stand beside every classification table
PROBED = ("method.probe_rows", "method.test_rows", "method.pooling")  # how a run probes, and so the random encoder beside it
DONE, BEGUN, TO_DO, DAMAGED = "done", "begun", "to do", "damaged"


@dataclass(frozen=True)
class Planned:
    """One run of a study: the stage it belongs to, the overrides that make its config, who it is and where it lies."""

    stage: str
    overrides: tuple[str, ...]
    config: Any
    identity: Identity
    folder: Path

    @property
    def starts(self) -> tuple[Path, ...]:
        """The folders that it starts from; the run's folder where one of its models is named."""
        given = [Path(self.config[key]).expanduser() for key in ("init_from", "init_from_ft") if self.config[key]]
        return tuple(path.parent.parent if path.parent.name == "models" else path for path in given)

    def state(self) -> str:
        """Say how far the run is: done, begun, to do, or damaged, where its result can't be read."""
        try:
            finished = read_result(self.folder) is not None
        except ValueError:
            return DAMAGED
        return DONE if finished else BEGUN if self.folder.exists() else TO_DO

    def listed(self, home: Path) -> str:
        """Return the run's folder as the study in ``home`` lists it: its name, or ``../<study>/<name>`` where another made it."""
        return Path(os.path.relpath(self.folder, home)).as_posix()


class Roster:
    """The runs of a study, planned one after the other; each may start from those before it."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.runs: dict[Path, Planned] = {}  # by folder: equal identities are one run
        self._known: dict[Path, Places] = {}

    def add(self, stage: str, start: Path | None, overrides: Sequence[str]) -> Planned:
        """Plan the run that ``overrides`` make and return it; ``start`` is the folder it starts from, which may not be there yet.

        A run that another study under the same outputs_dir has made or begun lies there.
        """
        given = [f"init_from={quoted(str(start))}"] if start is not None else []
        full = [*given, *overrides, f"study={self.study.name}", f"stage={quoted(stage)}"]
        with named(self.study, stage):
            config = compose(full)
            identity = identify(config, {str(folder): each.identity.id for folder, each in self.runs.items()})
        home = outputs_of(config)
        folder = self._places(home.parent).find(identity, home / identity.name)
        if folder.parent != home:
            full[-2] = f"study={folder.parent.name}"
            config = compose(full)
        made = Planned(stage, tuple(full), config, identity, folder)
        self.runs.setdefault(folder, made)
        return made

    def _places(self, outputs: Path) -> Places:
        if outputs not in self._known:
            self._known[outputs] = Places(outputs)
        return self._known[outputs]


class Places:
    """Where runs lie under an outputs_dir, whichever study made them."""

    def __init__(self, outputs: Path) -> None:
        """Look once: what begins to exist later is not seen."""
        self.found: dict[str, list[Path]] = {}
        studies = sorted(path for path in outputs.iterdir() if path.is_dir()) if outputs.is_dir() else []
        for folder in (run for study in studies for run in study.iterdir()):
            self.found.setdefault(folder.name, []).append(folder)

    def find(self, identity: Identity, own: Path) -> Path:
        """Return where the run lies: where it is finished, else where it was begun, else ``own``, which comes first each time."""
        there = [folder for folder in self.found.get(identity.name, []) if folder != own and _holds(folder, identity)]
        candidates = [*([own] if own.exists() else []), *there]
        finished = [folder for folder in candidates if (folder / "result.json").exists()]
        return (finished or candidates or [own])[0]


def _holds(folder: Path, identity: Identity) -> bool:
    try:
        return kept_identity(folder) == json.loads(json.dumps(identity.full))
    except (ValueError, OSError):  # damaged, or no folder
        return False


@contextmanager
def named(study: Study, stage: str) -> Iterator[None]:
    """Let a user's mistake inside the block name the study's file and stage."""
    try:
        yield
    except ValueError as error:
        if not is_mistake(error) or str(study.path) in str(error):
            raise
        raise ValueError(f"{study.path}: stages.{stage}: {error}") from None


def quoted(text: str) -> str:
    """Quote a value for Hydra's grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def combinations(stage: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the overrides of every combination of a stage's grid, its own overrides after them."""
    for chosen in grid_of(stage):
        # groups first: `method=...` chooses options that the stage's own keys may then change
        yield [*chosen, *(stage.get("overrides") or [])]


def grid_of(stage: dict[str, Any]) -> Iterator[list[str]]:
    """Yield every combination of a stage's grid as overrides."""
    grid = stage.get("grid") or {}
    for values in itertools.product(*grid.values()):
        yield [f"{key}={'null' if value is None else value}" for key, value in zip(grid, values, strict=True)]


def floors_beside(study: Study, combination: list[str], start: Planned | None) -> list[tuple[list[str], bool]]:
    """Return the floors beside a run on a task, each with whether it needs the run's start for its tokenizer and architecture."""
    if not study.floors or "method=pretrain" in combination or start is None:
        return []
    task = [text for text in combination if text.split("=", 1)[0].split(".")[0] in ("task", "corpus")]
    seed = [text for text in combination if text.startswith("seed=")]
    drawn = any("${seed}" in text for text in (*study.shared, *task))  # other rows for each seed
    probed = [text for text in combination if text.split("=", 1)[0] in PROBED]
    return [(["method=tfidf", *task, *(seed if drawn else [])], False), (["method=random_encoder", *task, *seed, *probed], True)]
