"""Tells apart runs of one method whose configs differ: a row of a table is one config over seeds, never a mixture.

In: runs with the configs that bear on their results. Out: the same runs, their ``variant`` naming what differs among them, such
as ``alignment.weight=0.5`` or ``from scratch``. Seeds and templates are not variants; starting points of different seeds
neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tofro.reports.arms import controls_of
from tofro.reports.collect import RunRecord

WHAT_IS_MEASURED = (
    "measure",
    "measure_ft",
    "train_score",
    "split",
    "held_out",
    "probes",
    "tasks",
    "corpora",
    "few_shot",
    "pseudo_log_likelihood",
)
NOT_VARIANTS = (
    "seed",
    "task.draw",
    "prompt.draw",
    "init_from",
    "init_from_ft",
    "prompt.template",
    "version",
    "alignment.least_per_class",  # refuses a run, and changes none
    *(f"method.{name}" for name in WHAT_IS_MEASURED),
)
SHORT = {"alignment.weight": "λ", "alignment.temperature": "τ", "tuning.k": "k"}


def name_variants(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Return the runs with variants that tell the configs of one method on one task apart."""
    groups: dict[tuple[str, str | None, frozenset[str]], list[RunRecord]] = {}
    for run in runs:  # a control is told by its name, and what it brings along need not be
        groups.setdefault((run.method, run.task, controls_of(run)), []).append(run)
    named = {run.folder: each for group in groups.values() for run, each in zip(group, _named(group), strict=True)}
    return tuple(named[run.folder] for run in runs)


def _named(group: list[RunRecord]) -> list[RunRecord]:
    configs = [_config(run) for run in group]
    differing = [key for key in _keys(configs) if len({str(config.get(key)) for config in configs}) > 1]
    named = [key for key in differing if key.endswith("_target_")]
    told = [key for key in differing if key in named or _differs_within(key, named, configs)]
    told = [key for key in told if not _follows(key, named, told, configs)]
    return [
        replace(run, variant=", ".join(dict.fromkeys(filter(None, (*_words(config, told), *_own_words(run))))))
        for run, config in zip(group, configs, strict=True)
    ]


def _own_words(run: RunRecord) -> list[str]:
    """Return what the run itself says of its variant, and the controls it is under by a key without a name."""
    return [*run.variant.split(", "), *sorted(control for control in controls_of(run) if control not in run.variant)]


def _differs_within(key: str, named: Sequence[str], configs: Sequence[dict[str, Any]]) -> bool:
    """Say whether a key differs among runs that chose the same named part; what comes with the choice need not be told too."""
    return not _determined(key, _owners(key, named), configs)


def _follows(key: str, named: Sequence[str], told: Sequence[str], configs: Sequence[dict[str, Any]]) -> bool:
    """Say whether a named part's own key only repeats what keys beside the part say, as a loss repeats the alignment's τ."""
    beside = [each for each in told if each in named or not _owners(each, named)]
    return key not in named and bool(_owners(key, named)) and _determined(key, beside, configs)


def _owners(key: str, named: Sequence[str]) -> list[str]:
    """Return the named parts that a key belongs to."""
    return [name for name in named if key.startswith(name.removesuffix("_target_"))]


def _determined(key: str, by: Sequence[str], configs: Sequence[dict[str, Any]]) -> bool:
    """Say whether configs that agree on the keys ``by`` agree on ``key``."""
    values: dict[tuple[str, ...], set[str]] = {}
    for config in configs:
        values.setdefault(tuple(str(config.get(name)) for name in by), set()).add(str(config.get(key)))
    return all(len(found) == 1 for found in values.values())


def _config(run: RunRecord) -> dict[str, Any]:
    config = {key: value for key, value in run.config.items() if key not in NOT_VARIANTS}
    if run.config.get("method.answer") == "cloze" and "prompt.template" in run.config:
        config["prompt.template"] = run.config["prompt.template"]  # a template that is trained makes another model
    if run.method != "pretrain":
        config["start"] = "" if run.lineage.get("init_from") else "from scratch"
    return config


def _keys(configs: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for config in configs for key in sorted(config)))


def _words(config: dict[str, Any], keys: list[str]) -> list[str]:
    words = []
    for key in keys:
        value = config.get(key)
        if value is None:  # a key at its default is not told
            continue
        if key == "start":
            words.append(str(value))
        elif key.endswith("_target_"):
            words.append(choice_of(key, str(value)))
        else:
            words.append(f"{SHORT.get(key, key)}={value}")
    return words


def choice_of(key: str, target: str) -> str:
    """Return how a chosen part is called: of a loss its own name, of a part beside it, a schedule say, what it is the name of."""
    part, name = key.split(".")[-2], target.rpartition(".")[2]
    return f"{part} {name}" if key.count(".") > 1 and part != "loss" else name
