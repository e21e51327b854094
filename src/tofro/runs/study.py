"""A study: many runs under one claim. Plans, skips what is finished, runs the rest in one process.

In: a folder with ``study.yaml``. Out: run folders and ``study.json`` under ``<outputs_dir>/<study>/``, for the report. A stage
that starts from another stage's models names that stage; the models are found by the config that makes them, never by date. What
a plan is made of is in planning.py, stages that are chains of runs in streams.py.
Planning is torch-free, so a study whose runs are all finished answers at once.
"""

from __future__ import annotations

import itertools
import shlex
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tofro.runs.folder import read_result, write_json
from tofro.runs.planning import Planned, Study, combinations, floors_beside, planned_run
from tofro.runs.run import run
from tofro.runs.streams import Stream, check_stream, plan_stream

STAGE_KEYS = {"init_from", "overrides", "grid", "stream"}
STUDY_KEYS = {"title", "claim", "shared", "stages", "floors", "expect"}


@dataclass(frozen=True)
class Plan:
    """Every run in the order of its making, and the streams that some of them form."""

    runs: tuple[Planned, ...]
    streams: tuple[Stream, ...] = ()


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
        if "stream" in stage:
            check_stream(f"{path}: stages.{name}", stage)
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
    return list(lay_out(study, overrides).runs)


def lay_out(study: Study, overrides: list[str]) -> Plan:
    """Return the runs of :func:`plan` with the streams among them."""
    planned: dict[Path, Planned] = {}
    by_stage: dict[str, list[Planned]] = {}
    streams: list[Stream] = []
    for name, stage in study.stages.items():
        starts: list[Planned | None] = list(by_stage[stage["init_from"]]) if stage.get("init_from") else [None]
        if "stream" in stage:
            streams.append(plan_stream(study, name, starts, overrides, planned))
            by_stage[name] = [chain.runs[-1] for chain in streams[-1].chains]
            continue
        for start, combination in itertools.product(starts, combinations(study, name, stage)):
            folder = start.folder if start is not None else None
            made = planned_run(study, name, folder, [*study.shared, *combination, *overrides], planned)
            by_stage.setdefault(name, []).append(made)
            planned.setdefault(made.folder, made)
            for floor, needs_start in floors_beside(study, combination, start):
                made = planned_run(study, name, folder if needs_start else None, [*study.shared, *floor, *overrides], planned)
                planned.setdefault(made.folder, made)
    return Plan(tuple(planned.values()), tuple(streams))


def run_study(folder: Path, overrides: list[str], dry_run: bool = False) -> tuple[Path, int]:
    """Run what is not finished. Returns the folder of the study's runs and how many failed; the others have run all the same."""
    study = read_study(folder)
    laid_out = lay_out(study, overrides)
    runs = laid_out.runs
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
            "streams": [stream.as_json() for stream in laid_out.streams],
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
