"""What only composed configs can tell to be wrong with a study: a key that no run uses, two stages that are one, a start without
a model, two opinions on the launcher.

In: a study and the runs of its stages. Out: nothing, or a ValueError that names the file and the key. Torch-free.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tofro.config.identity import groups_read
from tofro.config.schema import NEUTRAL_GROUPS, NEUTRAL_KEYS
from tofro.runs.launch import trains
from tofro.runs.planning import Planned
from tofro.runs.study_file import Study

ALWAYS = {"seed", "init_from", "init_from_ft", "recipe", "method", "hydra", *NEUTRAL_GROUPS, *NEUTRAL_KEYS}
TAKEN = ("study", "stage")  # a study sets them itself


def check_start(study: Study, name: str, starts: Sequence[Planned]) -> None:
    """Refuse a stage that starts from runs which leave no model."""
    for start in starts:
        if not trains(start.config):
            raise ValueError(
                f"{study.path}: stages.{name}.init_from names {start.stage!r}, whose runs (method={start.config.method.name}) "
                "train nothing: nobody makes these models"
            )


def check_plan(study: Study, stages: Mapping[str, Sequence[Planned]], runs: Sequence[Planned], overrides: Sequence[str]) -> None:
    """Refuse a plan that can't be meant. ``stages`` are their runs without floors, ``runs`` all that are planned."""
    _check_launcher(study, runs)
    _check_twins(study, stages)
    for where, text, concerned in _given(study, stages, runs, overrides):
        key = text.lstrip("+~").partition("=")[0].partition("@")[0]
        if key in TAKEN:
            raise ValueError(f"{where}: {key} is set by the study itself; leave {text} out")
        group = key.replace("/", ".").partition(".")[0]
        if group not in ALWAYS and not any(group in groups_read(run.config) for run in concerned):
            methods = ", ".join(dict.fromkeys(run.config.method.name for run in concerned))
            raise ValueError(f"{where}: no run uses {key} (method={methods}); leave {text} out, or move it to a stage that does")


def _given(
    study: Study, stages: Mapping[str, Sequence[Planned]], runs: Sequence[Planned], overrides: Sequence[str]
) -> Iterator[tuple[str, str, Sequence[Planned]]]:
    """Yield every override that was written, where it stands and the runs it goes into."""
    yield from ((f"{study.path}: shared", text, runs) for text in study.shared)
    yield from (("the command line", text, runs) for text in overrides)
    for name, stage in study.stages.items():
        where = f"{study.path}: stages.{name}"
        yield from ((f"{where}.overrides", text, stages[name]) for text in stage.get("overrides") or [])
        for key, values in (stage.get("grid") or {}).items():
            yield f"{where}.grid.{key}", f"{key}={','.join(map(str, values))}", stages[name]
        stream: dict[str, Any] = stage.get("stream") or {}
        for part in stream:
            for label, given in stream[part].items():
                texts = given["overrides"] if isinstance(given, dict) else given or []
                yield from ((f"{where}.stream.{part}.{label}", text, stages[name]) for text in texts)


def _check_twins(study: Study, stages: Mapping[str, Sequence[Planned]]) -> None:
    """Refuse two stages that make the same runs, one and all; runs and floors that stages share are made once."""
    made = {name: {run.identity.id for run in runs} for name, runs in stages.items()}
    for one, other in itertools.combinations(made, 2):
        if made[one] == made[other]:
            raise ValueError(
                f"{study.path}: stages.{one} and stages.{other} make the same runs, such as {stages[one][0].identity.name}; "
                "leave one out, or let them differ in a key that bears on the result"
            )


def _check_launcher(study: Study, runs: Sequence[Planned]) -> None:
    """Refuse stages that ask for different launchers: one carries out the whole study."""
    for run in runs:
        if run.config.launcher != runs[0].config.launcher:
            raise ValueError(
                f"{study.path}: stages.{run.stage} and stages.{runs[0].stage} differ in launcher; set it in shared, "
                "or on the command line"
            )
