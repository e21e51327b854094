"""A study: many runs under one claim. Plans, skips what is finished, hands the rest to a launcher.

In: a folder with ``study.yaml``. Out: run folders and ``study.json`` under ``<outputs_dir>/<study>/``, for the report. A stage
that starts from another stage's models names that stage; the models are found by the config that makes them, never by date, and a
run that another study under the same outputs_dir has made is used. The file is read in study_file.py, what a plan is made of is
in planning.py, stages that are chains of runs in streams.py; runs are carried out by local.py or slurm.py.
Planning is torch-free, so a study whose runs are all finished answers at once.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tofro.config.build import build
from tofro.runs.estimate import Costs, Estimate, estimate, spell
from tofro.runs.folder import write_json
from tofro.runs.jobs import Jobs
from tofro.runs.plan_checks import check_plan, check_start
from tofro.runs.planning import DONE, Planned, Roster, combinations, floors_beside
from tofro.runs.streams import Stream, plan_stream
from tofro.runs.study_file import Study, read_study

__all__ = ["Plan", "Planned", "Studied", "lay_out", "plan", "read_study", "run_study"]


@dataclass(frozen=True)
class Plan:
    """Every run in the order of its making, and the streams that some of them form."""

    runs: tuple[Planned, ...]
    streams: tuple[Stream, ...] = ()


class Studied(NamedTuple):
    """What came of a study: the folder of its report, how many runs failed and how many were made."""

    place: Path
    failed: int
    made: int


def plan(study: Study, overrides: list[str]) -> list[Planned]:
    """Return every run in the order of its making, floors after the stage they stand beside; equal identities once."""
    return list(lay_out(study, overrides).runs)


def lay_out(study: Study, overrides: list[str]) -> Plan:
    """Return the runs of :func:`plan` with the streams among them. ValueError names what is wrong with the study."""
    roster = Roster(study)
    by_stage: dict[str, list[Planned]] = {}
    streams: list[Stream] = []
    ends: dict[str, list[Planned]] = {}  # what a later stage starts from
    for name, stage in study.stages.items():
        starts: list[Planned | None] = list(ends[stage["init_from"]]) if stage.get("init_from") else [None]
        check_start(study, name, [start for start in starts if start is not None])
        if "stream" in stage:
            streams.append(plan_stream(roster, name, starts, overrides))
            by_stage[name] = [run for chain in streams[-1].chains for run in chain.runs]
            ends[name] = [chain.runs[-1] for chain in streams[-1].chains]
            continue
        made: list[Planned] = []
        by_stage[name] = ends[name] = made
        for start, combination in itertools.product(starts, combinations(stage)):
            folder = start.folder if start is not None else None
            made.append(roster.add(name, folder, [*study.shared, *combination, *overrides]))
            for floor, needs_start in floors_beside(study, combination, start):
                roster.add(name, folder if needs_start else None, [*study.shared, *floor, *overrides])
    runs = tuple(roster.runs.values())
    check_plan(study, by_stage, runs, overrides)
    return Plan(runs, tuple(streams))


def run_study(folder: Path, overrides: list[str], dry_run: bool = False) -> Studied:
    """Run what is not finished, seed by seed; a run that fails stops none but those that start from it.

    ``dry_run`` prints the plan alone.
    """
    study = read_study(folder)
    laid_out = lay_out(study, overrides)
    runs, states = laid_out.runs, {run.folder: run.state() for run in laid_out.runs}
    todo = [run for run in runs if states[run.folder] != DONE]
    todo.sort(key=lambda run: run.config.seed)  # a study that is stopped has every arm of its first seeds, and so has pairs
    outputs = Path(runs[0].config.outputs_dir).expanduser().resolve()
    place, launcher = outputs / study.name, runs[0].config.launcher
    costs = Costs(outputs) if todo or dry_run else None
    seconds = {run.folder: costs.of(run) if costs else None for run in runs}
    cost = estimate(todo, seconds, launcher.workers)
    told = f", {cost}" if todo else ""
    print(f"{study.title}: {len(runs)} runs, {len(runs) - len(todo)} finished, {len(todo)} to do{told}", file=sys.stderr)
    if dry_run:
        _show_plan(laid_out.runs, states, seconds, place, cost)
        return Studied(place, 0, 0)
    place.mkdir(parents=True, exist_ok=True)
    write_json(
        place / "study.json",
        {
            "title": study.title,
            "claim": study.claim,
            "command": shlex.join(["tofro", "study", str(folder), *overrides]),
            "expect": study.expect,
            "runs": [each.listed(place) for each in runs],
            "streams": [stream.as_json(place) for stream in laid_out.streams],
        },
    )
    jobs = Jobs(todo, place, seconds, launcher.workers)
    if todo:
        build(launcher, jobs)
    return Studied(place, jobs.failed, jobs.made)


def _show_plan(
    runs: Sequence[Planned], states: dict[Path, str], seconds: dict[Path, float | None], place: Path, cost: Estimate
) -> None:
    """Print a line for each run: its state, stage, folder, what it starts from and what it will take."""
    stages = max(len(str(run.stage)) for run in runs)
    width = max(len(run.listed(place)) for run in runs)
    for run in runs:
        left = "" if states[run.folder] == DONE else _spelt(seconds[run.folder])
        start = "".join(f"  from {path.name}" for path in dict.fromkeys(run.starts))
        line = f"{states[run.folder]:>7}  {run.stage:<{stages}}  {run.listed(place):<{width}}  {left:>10}{start}"
        print(line.rstrip())
    if any(state != DONE for state in states.values()):
        print(f"to do: {cost}")


def _spelt(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"~ {spell(seconds)}"
