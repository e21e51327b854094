"""The typed root of a run's config: its groups, their settings and the check of every value against its declared range.

In: the settings dataclasses of all rooms (the only home of defaults and ranges). Out: ``register()`` tells Hydra about them,
``check(config)`` refuses a composed config that breaks a range or a rule. No composition here (see ``compose.py``) and no torch.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from tofro.batches.settings import ObjectiveSettings
from tofro.config.credentials import credentials
from tofro.config.errors import ConfigError, did_you_mean
from tofro.declare import setting
from tofro.encoders.settings import MODERNBERT, ONLY_IN, EncoderSettings, LoraSettings, TopKSettings, TuningSettings
from tofro.modules.settings import BudgetSettings, MethodSettings, OptimizerSettings, ScheduleSettings, WiseSettings
from tofro.objectives.settings import (
    AlignmentSettings,
    ContrastiveSettings,
    ControlSettings,
    DivergenceSettings,
    InfoNCESettings,
    RegularizerSettings,
)
from tofro.runs.settings import LauncherSettings, LoggerSettings, SlurmSettings, TrainerSettings
from tofro.text.settings import CorpusSettings, HubSettings, HubTaskSettings, TaskSettings
from tofro.tokens.settings import PromptSettings, SearchSettings, TokenizerSettings


@dataclass
class RunConfig:
    """One run. Groups first, in the order of conf/run.yaml, then the keys of no group."""

    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    task: TaskSettings = field(default_factory=TaskSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    tuning: TuningSettings = field(default_factory=TuningSettings)
    regularizer: RegularizerSettings = field(default_factory=RegularizerSettings)
    prompt: PromptSettings = field(default_factory=PromptSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    launcher: LauncherSettings = field(default_factory=LauncherSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    control: ControlSettings = field(default_factory=ControlSettings)

    seed: int = setting(0, "seed of order, masks, pairs, dropout and initial weights", low=0, high=2**32 - 1)
    init_from: str | None = setting(
        None, "run folder, model folder or name on the hub that both encoders start from; null means from scratch"
    )
    init_from_ft: str | None = setting(None, "the same for `ft`, where it differs from `init_from`")
    outputs_dir: str = setting("outputs", "folder that holds all run folders")
    study: str | None = setting(None, "folder under outputs_dir; null means `runs`")
    stage: str | None = setting(None, "label of a study's stage, for reports")


# What a YAML file of a group may name first in its defaults list, so that its keys are typed.
SETTINGS: dict[str, dict[str, type]] = {
    "corpus": {"settings": CorpusSettings, "hub_settings": HubSettings},
    "task": {"settings": TaskSettings, "hub_settings": HubTaskSettings},
    "tokenizer": {"settings": TokenizerSettings},
    "encoder": {"settings": EncoderSettings},
    "objective": {"settings": ObjectiveSettings},
    "alignment": {
        "settings": AlignmentSettings,
        "contrastive_settings": ContrastiveSettings,
        "infonce_settings": InfoNCESettings,
        "divergence_settings": DivergenceSettings,
    },
    "tuning": {"settings": TuningSettings, "top_k_settings": TopKSettings, "lora_settings": LoraSettings},
    "regularizer": {"settings": RegularizerSettings},
    "prompt": {"settings": PromptSettings, "search_settings": SearchSettings},
    "optimizer": {"settings": OptimizerSettings},
    "schedule": {"settings": ScheduleSettings},
    "budget": {"settings": BudgetSettings},
    "trainer": {"settings": TrainerSettings},
    "logger": {"settings": LoggerSettings},
    "launcher": {"settings": LauncherSettings, "slurm_settings": SlurmSettings},
    "method": {"settings": MethodSettings, "wise_settings": WiseSettings},
    "control": {"settings": ControlSettings},
}
ROOT = "run_settings"
NEUTRAL_GROUPS = ("trainer", "logger", "launcher")
NEUTRAL_KEYS = ("outputs_dir", "study", "stage")
OPEN = ("trainer.fit", "prompt.words", "prompt.slots", "launcher.extra")  # mappings that take any name
LENGTHS = ("steps", "epochs", "tokens", "minutes")

READ_FROM_PATH = ("tofro.text.corpus.read_corpus", "tofro.text.task.read_task")  # _target_s that are nothing without a path

# Lightning's own arguments that bear on no result; everything else has its key here.
FIT_KEYS = ("benchmark", "detect_anomaly", "enable_model_summary", "profiler")
LIGHTNING_KEYS = {
    "max_steps": "budget.steps",
    "max_epochs": "budget.epochs",
    "max_time": "budget.minutes",
    "batch_size": "budget.batch",
    "gradient_clip_val": "budget.clip",
    "accumulate_grad_batches": "budget.accumulate",
    "val_check_interval": "budget.evaluate_every",
    "check_val_every_n_epoch": "budget.evaluate_every",
    "patience": "budget.patience",
    "precision": "budget.precision",
    "accelerator": "trainer.accelerator",
    "devices": "trainer.devices",
    "num_nodes": "trainer.num_nodes",
    "strategy": "trainer.devices",
    "deterministic": "trainer.deterministic",
    "log_every_n_steps": "trainer.log_every",
    "enable_progress_bar": "trainer.progress",
}


@functools.cache
def register() -> None:
    """Store every settings dataclass with Hydra under (group, name), and the root as ``run_settings``."""
    store = ConfigStore.instance()
    store.store(name=ROOT, node=RunConfig, provider="tofro")
    for group, variants in SETTINGS.items():
        for name, settings in variants.items():
            store.store(group=group, name=name, node=settings, provider="tofro")


def typed_nodes(config: DictConfig) -> Iterator[tuple[str, Any, type]]:
    """Yield (prefix of its keys, node, dataclass) of the root and of every group; the root's prefix is empty."""
    yield "", config, RunConfig
    for group in SETTINGS:
        node = config.get(group)
        if isinstance(node, DictConfig):
            yield f"{group}.", node, OmegaConf.get_type(node) or SETTINGS[group]["settings"]


def declarations(key: str) -> list[tuple[type, Field[Any]]]:
    """Return the dataclasses that declare a dotted key, with its field: one per variant of the group that has it."""
    group, _, name = key.rpartition(".")
    variants = list(SETTINGS.get(group, {}).values()) if group else [RunConfig]
    return [(settings, each) for settings in variants for each in fields(settings) if each.name == name and each.metadata]


def expected(settings: type, name: str) -> str:
    """Say in words what a key accepts: its type, and its range where it has one."""
    hint = typing.get_type_hints(settings)[name]
    arguments = typing.get_args(hint)
    optional = type(None) in arguments
    kind = next(a for a in arguments if a is not type(None)) if optional else hint
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    metadata = next(each for each in fields(settings) if each.name == name).metadata
    text = words.get(kind, "a list" if typing.get_origin(kind) is list else "a mapping")
    if "choices" in metadata:
        text = "one of " + ", ".join(metadata["choices"])
    bounds = [f"at least {metadata['low']}"] if "low" in metadata else []
    bounds += [f"above {metadata['above']}"] if "above" in metadata else []
    bounds += [f"at most {metadata['high']}"] if "high" in metadata else []
    bounds += [f"below {metadata['below']}"] if "below" in metadata else []
    bounds += [f"a multiple of {metadata['multiple_of']}"] if "multiple_of" in metadata else []
    if bounds:
        text += ", " + " and ".join(bounds)
    return text + (", or null" if optional else "")


def _in_range(value: Any, metadata: Any) -> bool:
    """Tell whether a value keeps its declared range; NaN keeps none."""
    if value is None:
        return True
    if "choices" in metadata:
        return value in metadata["choices"]
    checks = {
        "low": lambda bound: value >= bound,
        "high": lambda bound: value <= bound,
        "above": lambda bound: value > bound,
        "below": lambda bound: value < bound,
        "multiple_of": lambda bound: value % bound == 0,
    }
    return all(holds(metadata[name]) for name, holds in checks.items() if name in metadata)


def check(config: DictConfig) -> None:
    """Raise ConfigError for the first values out of range or rules broken.

    Rules beyond single values: exactly one of budget.steps, epochs, tokens and minutes; heads divide the width; ``trainer.fit``
    holds neutral arguments only; every group that the method reads is complete; no value is a credential.
    """
    problems: list[tuple[str, str]] = list(credentials(config))
    if problems:  # before any message that repeats a value
        raise ConfigError(problems)
    for prefix, node, settings in typed_nodes(config):
        names = [each.name for each in fields(settings)]
        present = list(node.keys())
        problems += [(f"no key {prefix}{name}", did_you_mean(str(name), names)) for name in present if name not in names]
        problems += [(f"{prefix}{name} can't be left out", "set it instead") for name in names if name not in present]
    for prefix, node, settings in typed_nodes(config) if not problems else ():
        for each in fields(settings):
            if not each.metadata or OmegaConf.is_missing(node, each.name):
                continue
            value = node[each.name]
            if not _in_range(value, each.metadata):
                key = f"{prefix}{each.name}"
                remedy = f"{key} is {expected(settings, each.name)} ({each.metadata['doc']})"
                problems.append((f"{key}={value} is out of range", remedy))
    problems = problems or list(_broken_rules(config))
    if problems:
        raise ConfigError(problems)


def _broken_rules(config: DictConfig) -> Iterator[tuple[str, str]]:
    given = [f"budget.{name}={config.budget[name]}" for name in LENGTHS if config.budget[name] is not None]
    if len(given) != 1:
        names = [f"budget.{name}" for name in LENGTHS]
        what = " and ".join(given) if given else f"none of {', '.join(names[:-1])} and {names[-1]} is set"
        yield f"the run's length is not clear: {what}", f"give exactly one of {', '.join(names)}"
    for name, remedy in (("loss", "alignment=..."), ("schedule", "alignment/schedule=...")):
        value = None if OmegaConf.is_missing(config.alignment, name) else config.alignment[name]
        if value is not None and not isinstance(value, DictConfig):
            yield f"alignment.{name}={value} is no function with its keys", f"choose one with {remedy}"
    if config.encoder.width % config.encoder.heads:
        yield (
            f"encoder.heads={config.encoder.heads} does not divide encoder.width={config.encoder.width}",
            "choose a number of heads that divides the width",
        )
    yield from _unused_encoder_keys(config.encoder)
    states = config.regularizer.replay_states
    if states and config.regularizer.replay_targets == "corpus":
        yield (
            f"regularizer.replay_states={states}: the corpus has no states to teach",
            "set regularizer.replay_targets=start (regularizer=distilled_replay), or replay_states=0",
        )
    for name in config.trainer.fit or {}:
        if name not in FIT_KEYS:
            home = LIGHTNING_KEYS.get(str(name))
            yield (
                f"trainer.fit.{name} is not accepted: it may bear on the result, or tofro sets it itself",
                f"use {home}" if home else f"trainer.fit takes {', '.join(FIT_KEYS)}",
            )
    if config.control.name and "control" not in config.method.reads:
        yield f"control={config.control.name}: method={config.method.name} has no such control", "leave control out"
    for group in config.method.reads:
        if group not in SETTINGS:
            yield f"method.reads names {group}, which is no config group", f"groups: {', '.join(SETTINGS)}"
            continue
        if config[group].get("_target_") in READ_FROM_PATH and config[group].path is None:
            yield f"{group}.path is not set", f"name a file or folder: {group}.path=..., or choose another {group}=..."
        for key in sorted(OmegaConf.missing_keys(config[group])):  # relative to the root where the node has one
            name = f"{group}.{key.removeprefix(f'{group}.')}"
            yield f"method={config.method.name} needs {name}, which is not set", f"choose another {group}=..., or set {name}=..."


def _unused_encoder_keys(encoder: DictConfig) -> Iterator[tuple[str, str]]:
    """Name the keys that were set and that the encoder's family does not have."""
    if encoder.family == MODERNBERT and encoder.width // encoder.heads % 2:
        odd = f"encoder.width={encoder.width} and encoder.heads={encoder.heads} make heads of odd width"
        yield odd, "rotary positions need an even one: choose other numbers"
    for name, families in ONLY_IN.items():
        if encoder.family not in families and encoder[name] != EncoderSettings.__dataclass_fields__[name].default:
            yield f"encoder.{name}={encoder[name]}: an encoder of family {encoder.family} has no such thing", "leave it out"


def seal(config: DictConfig) -> DictConfig:
    """Check a composed config and make it read-only; returns the same object."""
    check(config)
    OmegaConf.set_struct(config, True)
    OmegaConf.set_readonly(config, True)
    return config
