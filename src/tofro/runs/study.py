"""A study: many runs under one claim. Plans, skips what is finished, runs the rest in one process.

In: a folder with ``study.yaml``. Out: run folders and ``study.json`` under ``<outputs_dir>/<study>/``, for the report. A stage
that starts from another stage's models names that stage; the models are found by the config that makes them, never by date.
Planning is torch-free, so a study whose runs are all finished answers at once.
"""

from __future__ import annotations

import itertools
import shlex
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tofro.config.compose import compose
from tofro.config.identity import Identity
from tofro.runs.folder import read_result, write_json
from tofro.runs.run import identify, outputs_of, run

FLOORS = ("tfidf", "random_encoder")  # the rows that stand beside every classification table
STAGE_KEYS = {"init_from", "overrides", "grid"}
STUDY_KEYS = {"title", "claim", "shared", "stages", "floors", "expect"}


@dataclass(frozen=True)
class Planned:
    """One run of a study: the stage it belongs to, the overrides that make its config, and who it is."""

    stage: str
    overrides: tuple[str, ...]
    config: Any
    identity: Identity
    folder: Path


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


def read_study(folder: Path) -> Study:
    """Read ``study.yaml``; ValueError names the file and the key that is wrong."""
    path = folder if folder.suffix == ".yaml" else folder / "study.yaml"
    if not path.is_file():
        raise ValueError(f"{path}: there is no study file; give a folder with a study.yaml, such as experiments/quickstart")
    try:
        data = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict) or "title" not in data or not data.get("stages"):
        raise ValueError(f"{path}: needs a title and at least one stage under stages")
    _only(path, "", data, STUDY_KEYS)
    _typed(path, "", data, {"stages": dict, "shared": list, "expect": dict, "floors": bool})
    for name, stage in data["stages"].items():
        _typed(path, "stages.", data["stages"], {name: dict})
        _only(path, f"stages.{name}.", stage, STAGE_KEYS)
        _typed(path, f"stages.{name}.", stage, {"init_from": str, "overrides": list, "grid": dict})
        earlier = list(data["stages"])[: list(data["stages"]).index(name)]
        if stage.get("init_from") and stage["init_from"] not in earlier:
            raise ValueError(f"{path}: stages.{name}.init_from names {stage['init_from']!r}, which is no earlier stage")
    return Study(path=path.resolve(), **data)


def _only(path: Path, prefix: str, data: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"{path}: unknown key {prefix}{unknown[0]}; known are {', '.join(sorted(known))}")


def _typed(path: Path, prefix: str, data: dict[str, Any], types: dict[str, type]) -> None:
    words = {dict: "a mapping", list: "a list", bool: "true or false", str: "text"}
    for name, kind in types.items():
        if name in data and not isinstance(data[name], kind):
            raise ValueError(f"{path}: {prefix}{name} must be {words[kind]}, not {data[name]!r}")


def plan(study: Study, overrides: list[str]) -> list[Planned]:
    """Return every run in the order of its making, floors after the stage they stand beside; equal identities once."""
    planned: dict[Path, Planned] = {}
    by_stage: dict[str, list[Planned]] = {}
    for name, stage in study.stages.items():
        starts: list[Planned | None] = list(by_stage[stage["init_from"]]) if stage.get("init_from") else [None]
        for start, combination in itertools.product(starts, _combinations(study, name, stage)):
            made = _planned(study, name, start, [*study.shared, *combination, *overrides], planned)
            by_stage.setdefault(name, []).append(made)
            planned.setdefault(made.folder, made)
            for floor, needs_start in _floors(study, combination, start):
                made = _planned(study, name, start if needs_start else None, [*study.shared, *floor, *overrides], planned)
                planned.setdefault(made.folder, made)
    return list(planned.values())


def _planned(study: Study, stage: str, start: Planned | None, overrides: list[str], earlier: dict[Path, Planned]) -> Planned:
    if start is not None:
        overrides = [f"init_from={_quoted(str(start.folder))}", *overrides]
    full = [*overrides, f"study={study.name}", f"stage={stage}"]
    config = compose(full)
    identity = identify(config, {str(folder): each.identity.id for folder, each in earlier.items()})
    return Planned(stage, tuple(full), config, identity, outputs_of(config) / identity.name)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _combinations(study: Study, name: str, stage: dict[str, Any]) -> Iterator[list[str]]:
    grid = stage.get("grid") or {}
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{study.path}: stages.{name}.grid.{key} must be a list of values")
    for values in itertools.product(*grid.values()):
        chosen = [f"{key}={'null' if value is None else value}" for key, value in zip(grid, values, strict=True)]
        # groups first: `method=...` chooses options that the stage's own keys may then change
        yield [*chosen, *(stage.get("overrides") or [])]


def _floors(study: Study, combination: list[str], start: Planned | None) -> list[tuple[list[str], bool]]:
    """Return the floors beside a run on a task, each with whether it needs the run's start for its tokenizer and architecture."""
    if not study.floors or "method=pretrain" in combination or start is None:
        return []
    task = [text for text in combination if text.split("=", 1)[0].split(".")[0] in ("task", "corpus")]
    seed = [text for text in combination if text.startswith("seed=")]
    return [(["method=tfidf", *task], False), (["method=random_encoder", *task, *seed], True)]


def run_study(folder: Path, overrides: list[str], dry_run: bool = False) -> tuple[Path, int]:
    """Run what is not finished. Returns the folder of the study's runs and how many failed; the others have run all the same."""
    study = read_study(folder)
    runs = plan(study, overrides)
    todo = [each for each in runs if read_result(each.folder) is None]
    print(f"{study.title}: {len(runs)} runs, {len(runs) - len(todo)} finished, {len(todo)} to do", file=sys.stderr)
    place = runs[0].folder.parent
    if dry_run:
        for each in runs:
            print(f"{'to do' if each in todo else 'done':>6}  {each.stage:<10} {each.identity.name}")
        return place, 0
    place.mkdir(parents=True, exist_ok=True)
    write_json(
        place / "study.json",
        {
            "title": study.title,
            "claim": study.claim,
            "command": shlex.join(["tofro", "study", str(folder), *overrides]),
            "expect": study.expect,
            "runs": [each.folder.name for each in runs],
        },
    )
    return place, _run_all(todo)


def _run_all(todo: list[Planned]) -> int:
    failed = 0
    for number, each in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {each.identity.name}", file=sys.stderr, flush=True)
        try:
            run(each.config, list(each.overrides))
        except ValueError as error:
            failed += 1
            print(f"  failed: {error}", file=sys.stderr, flush=True)
        except Exception:  # a bug, or memory that ran out: the other runs have a right to run
            failed += 1
            traceback.print_exc()
    return failed
