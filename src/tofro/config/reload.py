"""A run's config as its folder keeps it, typed and sealed again.

In: a ``config.yaml`` that a composed config was written to. Out: the same config: same types, same values, read-only. Composition
is over; what the file says is final.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from tofro.config.errors import ConfigError
from tofro.config.explain import unresolved
from tofro.config.schema import SETTINGS, RunConfig, seal


def reload(path: Path) -> DictConfig:
    """Return the config that ``path`` holds; ConfigError where a change broke a rule, or where it refers to what is not there."""
    written = OmegaConf.load(path)
    assert isinstance(written, DictConfig)
    config = OmegaConf.structured(RunConfig)
    for group in SETTINGS:
        config[group] = OmegaConf.structured(_variant(group, set(written[group])))
    merged = OmegaConf.merge(config, written)
    assert isinstance(merged, DictConfig)
    try:
        return seal(merged)
    except InterpolationResolutionError as error:
        what, remedy = unresolved(error)
        raise ConfigError([(f"{path}: {what}", remedy)]) from None


def _variant(group: str, keys: set[str]) -> type:
    """Return the dataclass of ``group`` with these keys and the fewest others, which came after the config was written."""
    variants = {each: {field.name for field in fields(each)} for each in SETTINGS[group].values()}
    holding = [each for each, names in variants.items() if keys <= names]
    return min(holding, key=lambda each: len(variants[each]), default=next(iter(variants)))
