"""The file ``study.yaml``: read, and checked for whatever can be seen to be wrong before any config is composed.

In: a folder. Out: :class:`Study`. ValueError names the file and the key. Leaves out what only composed configs can tell
(plan_checks.py). Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tofro.config.errors import did_you_mean

STUDY_KEYS = {"title", "claim", "shared", "stages", "floors", "expect"}
STAGE_KEYS = {"init_from", "overrides", "grid", "stream"}
STREAM_KEYS = {"tasks", "arms"}
ARM_KEYS = {"overrides", "goes_on"}
MODELS = ("pre", "ft")


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
        _check_stage(path, name, stage)
    _check_starts(path, data["stages"])
    return Study(path=path.resolve(), **data)


def _check_stage(path: Path, name: str, stage: Any) -> None:
    _typed(path, "stages.", {name: stage}, {name: dict})
    _only(path, f"stages.{name}.", stage, STAGE_KEYS)
    _typed(path, f"stages.{name}.", stage, {"init_from": str, "overrides": list, "grid": dict})
    for key, values in (stage.get("grid") or {}).items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{path}: stages.{name}.grid.{key} must be a list of values")
    if "stream" in stage:
        check_stream(f"{path}: stages.{name}", stage)


def _check_starts(path: Path, stages: dict[str, Any]) -> None:
    """Refuse a stage that starts from itself in the end, from one further down, or from none that there is."""
    for name in stages:
        followed = [name]
        while (start := stages[followed[-1]].get("init_from")) in stages:
            if start in followed:
                circle = " from ".join(map(str, [*followed[followed.index(start) :], start]))
                raise ValueError(f"{path}: stages.{name}.init_from: a cycle, {circle}; one of them must start from no stage")
            followed.append(start)
    for position, (name, stage) in enumerate(stages.items()):
        start = stage.get("init_from")
        if not start or start in list(stages)[:position]:
            continue
        where = f"{path}: stages.{name}.init_from names {start!r}"
        if start in stages:
            raise ValueError(f"{where}, which stands further down; write the stage that makes the models first")
        hint = did_you_mean(start, map(str, stages)) or "a folder is given as init_from=FOLDER under overrides"
        raise ValueError(f"{where}, which is no stage: nobody makes these models; {hint}")


def _only(path: Path, prefix: str, data: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"{path}: unknown key {prefix}{unknown[0]}; known are {', '.join(sorted(known))}")


def _typed(path: Path, prefix: str, data: dict[str, Any], types: dict[str, type]) -> None:
    words = {dict: "a mapping", list: "a list", bool: "true or false", str: "text"}
    for name, kind in types.items():
        if name in data and not isinstance(data[name], kind):
            raise ValueError(f"{path}: {prefix}{name} must be {words[kind]}, not {data[name]!r}")
        if kind is list and name in data and not are_overrides(data[name]):
            raise ValueError(f"{path}: {prefix}{name} must be a list of overrides such as seed=1, not {data[name]!r}")


def check_stream(where: str, stage: dict[str, Any]) -> None:
    """Refuse a stream that is not one; ``where`` names file and stage."""
    stream = stage["stream"]
    if not isinstance(stream, dict) or set(stream) != STREAM_KEYS:
        raise ValueError(f"{where}.stream needs the keys tasks and arms, and takes no other")
    for key in ("tasks", "arms"):
        if not isinstance(stream[key], dict) or not stream[key]:
            raise ValueError(f"{where}.stream.{key} must be a mapping of names to lists of overrides")
    if len(stream["tasks"]) < 2:
        raise ValueError(f"{where}.stream.tasks must hold two tasks or more, in the order of their training")
    for name, overrides in stream["tasks"].items():
        if overrides is not None and not are_overrides(overrides):
            raise ValueError(f"{where}.stream.tasks.{name} must be a list of overrides, or nothing for task={name}")
    for name, arm in stream["arms"].items():
        if not are_overrides(arm) and not (isinstance(arm, dict) and are_overrides(arm.get("overrides"))):
            raise ValueError(f"{where}.stream.arms.{name} must be a list of overrides, or a mapping with overrides and goes_on")
        if isinstance(arm, dict) and set(arm) - ARM_KEYS:
            raise ValueError(f"{where}.stream.arms.{name} takes overrides and goes_on, not {sorted(set(arm) - ARM_KEYS)[0]}")
        if isinstance(arm, dict) and arm.get("goes_on", "pre") not in MODELS:
            raise ValueError(f"{where}.stream.arms.{name}.goes_on must be pre or ft, the model that the next stage starts from")
    given = any(text.startswith("init_from=") for text in stage.get("overrides") or [])
    if not stage.get("init_from") and not given:
        raise ValueError(f"{where} needs init_from: stage 0 of a stream is a pretrained encoder")


def are_overrides(value: Any) -> bool:
    """Say whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
