"""The reference that ``tofro run --help`` prints: every group, its options, and every key with its default, range and meaning.

In: the settings dataclasses and conf/. Out: plain text. Nothing is composed, and no torch is imported.
"""

from __future__ import annotations

import dataclasses
from dataclasses import Field, fields
from typing import Any

from omegaconf import MISSING

from tofro.config.compose import conf_folder
from tofro.config.explain import Known
from tofro.config.schema import NEUTRAL_GROUPS, SETTINGS, RunConfig, expected


def describe() -> str:
    """Return the whole reference."""
    options = Known(conf_folder()).groups
    parts = ["Keys of no group:", *_keys("", RunConfig), ""]
    for group, variants in SETTINGS.items():
        neutral = " (neutral: no part of a run's identity)" if group in NEUTRAL_GROUPS else ""
        parts.append(f"{group}={'|'.join(options[group])}{neutral}")
        base = variants["settings"]
        parts += _keys(f"{group}.", base)
        known = {each.name for each in fields(base)}
        for variant in variants.values():
            parts += _keys(f"{group}.", variant, known)
        parts += [f"  {inner}={'|'.join(choices)}" for inner, choices in options.items() if inner.startswith(f"{group}/")]
        parts.append("")
    parts.append(f"recipe={'|'.join(options['recipe'])}  named runs; each file in conf/recipe opens with what, cost and command")
    return "\n".join(parts)


def _keys(prefix: str, settings: type, skip: set[str] | None = None) -> list[str]:
    """Return a line for every declared key of a dataclass but those in ``skip`` and the ones that a YAML file is there to set."""
    shown = [each for each in fields(settings) if each.metadata and each.name not in {"_target_", *(skip or ())}]
    return [
        f"  {prefix + each.name:<28} {_default(each):<12} {each.metadata['doc']} [{expected(settings, each.name)}]"
        for each in shown
    ]


def _default(each: Field[Any]) -> str:
    value = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return "required" if value == MISSING else str(value)
