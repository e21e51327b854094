"""Composition of a run's config from conf/ and overrides.

In: overrides in Hydra's grammar. Out: a read-only, range-checked DictConfig shaped as ``schema.RunConfig``. ``multirun`` hands
over to Hydra's own sweeper and launcher. Every mistake of the user ends as a ``ConfigError``; no torch is imported here.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tofro.config.credentials import refuse_credentials
from tofro.config.errors import ConfigError
from tofro.config.explain import explain
from tofro.config.schema import LENGTHS, OPEN, register, seal

RUN = "run"  # conf/run.yaml
MISTAKES = (HydraException, OmegaConfBaseException, yaml.YAMLError)
_merged: dict[tuple[Any, ...], DictConfig] = {}  # (conf folder, choices of options) -> config before any value is set


def conf_folder() -> Path:
    """Return conf/: inside the package in an installed wheel, at the root of an editable checkout."""
    packaged = Path(str(resources.files("tofro"))) / "conf"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "conf"


@contextmanager
def _session() -> Iterator[Any]:
    """Open Hydra on conf/ and yield its (otherwise private) object; whatever Hydra was set up before comes back afterwards."""
    register()
    assert conf_folder().is_dir(), f"the installation lacks its conf folder: {conf_folder()}"
    with initialize_config_dir(str(conf_folder()), job_name="tofro", version_base="1.3"):
        yield GlobalHydra.instance().hydra


def compose(overrides: list[str]) -> DictConfig:
    """Compose one run's config; ConfigError says in at most eight lines what to write instead.

    Example: ``compose(["method=full", "task=pydoc_kind", "budget.steps=100"])``.
    """
    with _session() as hydra:
        return _compose_in(hydra, overrides)


def _compose_in(hydra: Any, overrides: list[str]) -> DictConfig:
    refuse_credentials(overrides)
    try:
        return seal(_merge(hydra, displace_lengths(overrides)))
    except MISTAKES as mistake:
        raise explain(mistake, overrides, hydra.config_loader, conf_folder()) from None


def _merge(hydra: Any, overrides: list[str]) -> DictConfig:
    """Compose as Hydra does: the chosen options first, then the values in the order given.

    Reading YAML and merging options takes most of the time, and the runs of a study share their options: what the same choices
    made before is used again, and only plain values are set on a copy.
    """
    choices: list[str] = []
    values: list[tuple[str, Any]] = []
    for text, override in zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True):
        key = override.key_or_group
        marked = override.is_add() or override.is_delete() or override.is_sweep_override() or override.package
        choice = key.startswith("hydra.") or (conf_folder() / key).is_dir()
        opened = key.startswith(OPEN) and not override.is_delete() and not override.is_sweep_override()
        if opened or not (marked or choice or isinstance(override.value(), dict)):
            values.append((key, override.value()))
        else:
            choices.append(text)
    made = (conf_folder(), *choices)
    if made not in _merged:
        _merged[made] = hydra_compose(RUN, overrides=choices)
    config = copy.deepcopy(_merged[made])
    for key, value in values:
        OmegaConf.update(config, key, value, merge=True, force_add=key.startswith(OPEN))
    return config


def displace_lengths(overrides: list[str]) -> list[str]:
    """Let a length given on the command line take the place of the preset's.

    ``budget.minutes=10`` alone would stand beside the preset's ``budget.steps`` and be refused; it adds
    ``budget.steps=null budget.epochs=null``. Lengths that the user gives side by side stay, and are refused.
    """
    given = {key.lstrip("+"): value for key, _, value in (text.partition("=") for text in overrides)}
    named = [name for name in LENGTHS if f"budget.{name}" in given]
    if not any(given[f"budget.{name}"] != "null" for name in named):
        return list(overrides)
    return list(overrides) + [f"budget.{name}=null" for name in LENGTHS if name not in named]


def multirun(overrides: list[str], job: Callable[[DictConfig], Any]) -> list[Any]:
    """Run ``job`` on the config of every combination, through Hydra's sweeper and launcher; return what the jobs returned.

    Every swept value is composed and checked once before the first job starts. The config arrives at the job unsealed; the
    job's own overrides are ``job_overrides()``. Hydra insists on a folder for its notes: it gets a temporary one.
    """
    with _session() as hydra, tempfile.TemporaryDirectory(prefix="tofro-sweep-") as notes:
        _check_sweep(hydra, overrides)
        arguments = displace_lengths(overrides)
        if not any(text.startswith("hydra.sweep.dir=") for text in arguments):
            arguments.append(f"hydra.sweep.dir='{notes}'")
        try:
            batches = hydra.multirun(RUN, job, arguments, with_log_configuration=False)
        except MISTAKES as mistake:
            raise explain(mistake, overrides, hydra.config_loader, conf_folder()) from None
    if not isinstance(batches, list):  # a sweeper that searches returns nothing
        return []
    return [result.return_value for batch in batches for result in batch]


def job_overrides() -> list[str]:
    """Return the overrides of the multirun job that is running, as the user could type them."""
    return [str(text) for text in HydraConfig.get().overrides.task]


def _check_sweep(hydra: Any, overrides: list[str]) -> None:
    """Compose the first combination and then every other swept value in its place, so that a mistake stops all before any ran."""
    refuse_credentials(overrides)
    try:
        parsed = OverridesParser.create(hydra.config_loader).parse_overrides(overrides)
    except MISTAKES as mistake:
        raise explain(mistake, overrides, hydra.config_loader, conf_folder()) from None
    values: list[list[str]] = []
    for text, override in zip(overrides, parsed, strict=True):
        if override.is_hydra_override() or (override.is_sweep_override() and not override.is_discrete_sweep()):
            continue
        key = override.get_key_element()
        swept = [f"{key}={value}" for value in override.sweep_string_iterator()] if override.is_sweep_override() else [text]
        if not swept:
            raise ConfigError([(f"{text} sweeps over nothing", "give at least one value")])
        values.append(swept)
    first = [each[0] for each in values]
    _compose_in(hydra, first)
    for position, each in enumerate(values):
        for value in each[1:]:
            _compose_in(hydra, [*first[:position], value, *first[position + 1 :]])
