"""Tells apart runs of one method whose configs differ: a row of a table is one config over seeds, never a mixture.

In: runs with the configs that bear on their results. Out: the same runs, their ``variant`` naming what differs among them, such
as ``alignment.weight=0.5`` or ``from scratch``. Seeds and templates are not variants; starting points of different seeds
neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tofro.reports.collect import RunRecord

NOT_VARIANTS = ("seed", "init_from", "init_from_ft", "prompt.template", "version")
SHORT = {"alignment.weight": "λ", "tuning.k": "k"}


def name_variants(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Return the runs with variants that tell the configs of one method on one task apart."""
    groups: dict[tuple[str, str | None], list[RunRecord]] = {}
    for run in runs:
        groups.setdefault((run.method, run.task), []).append(run)
    named = {run.folder: each for group in groups.values() for run, each in zip(group, _named(group), strict=True)}
    return tuple(named[run.folder] for run in runs)


def _named(group: list[RunRecord]) -> list[RunRecord]:
    configs = [_config(run) for run in group]
    differing = [key for key in _keys(configs) if len({str(config.get(key)) for config in configs}) > 1]
    # where a named part differs, what hangs on its choice (its own keys, its presets) need not be told as well
    named = [key for key in differing if key.endswith("_target_")]
    told = [key for key in differing if key in named or not any(key.startswith(name.removesuffix("_target_")) for name in named)]
    return [
        replace(run, variant=", ".join(filter(None, (run.variant, *_words(config, told)))))
        for run, config in zip(group, configs, strict=True)
    ]


def _config(run: RunRecord) -> dict[str, Any]:
    config = {key: value for key, value in run.config.items() if key not in NOT_VARIANTS}
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
            words.append(str(value).rpartition(".")[2])
        else:
            words.append(f"{SHORT.get(key, key)}={value}")
    return words
