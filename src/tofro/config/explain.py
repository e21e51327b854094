"""From an exception of Hydra or OmegaConf to a message about the user's own words.

In: the exception, the overrides that led to it and Hydra's view of conf/. Out: a ``ConfigError``. The overrides are looked at one
by one against the known groups, options and keys; only what they do not explain is read out of the exception (a YAML file, say).
``misspelt_defaults`` checks what Hydra does not: words such as ``optioal`` in a defaults list are ignored by it in silence.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    KeyValidationError,
    OmegaConfBaseException,
    ValidationError,
)

from tofro.config.errors import ConfigError, did_you_mean
from tofro.config.schema import LIGHTNING_KEYS, OPEN, ROOT, SETTINGS, RunConfig, declarations, expected

Problem = tuple[str, str]


def explain(mistake: Exception, overrides: list[str], loader: Any, conf: Path) -> ConfigError:
    """Turn a failed composition into a ConfigError; ``loader`` is Hydra's ConfigLoader, ``conf`` the folder it reads."""
    searched = [text for text in overrides if "hydra.searchpath" in text]  # only then can an option lie outside conf/
    own = [Path(place) for text in searched for place in re.findall(r"file://([^,\]'\"]+)", text)]
    known = Known(conf, loader if searched else None, own)  # the loader is slow to ask
    cause = _cause(mistake)
    missing = str(cause.full_key) if isinstance(cause, ConfigKeyError | ConfigAttributeError) else None
    problems: list[Problem] = []
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(OverridesParser.create().parse_overrides([text])[0])
        except OverrideParseException:
            problems.append(_unreadable(text, known))
    problems += [problem for override in parsed if (problem := _bad_name(override, known, missing))]
    return ConfigError(problems or _sweep_without_flag(mistake, parsed, known) or _from_exception(mistake, overrides, known))


class Known:
    """The groups, options and dotted keys there are, read from the settings dataclasses, conf/ and Hydra's search path."""

    def __init__(self, conf: Path, loader: Any = None, own: Sequence[Path] = ()) -> None:
        self.conf = conf
        self.loader = loader
        self.own = own  # folders that the command line adds; the loader knows them only after it has read them

    @functools.cached_property
    def groups(self) -> dict[str, list[str]]:
        """Options by group, settings classes left out."""
        names = {folder.relative_to(self.conf).as_posix() for folder in self.conf.rglob("*") if folder.is_dir()} | set(SETTINGS)
        options: dict[str, list[str]] = {}
        for name in sorted(names):
            here = {path.stem for folder in (self.conf, *self.own) for path in (folder / name).glob("*.yaml")}
            if self.loader is not None:
                here |= set(self.loader.get_group_options(name, results_filter=ObjectType.CONFIG))
            options[name] = sorted(here - set(SETTINGS.get(name, {})))
        return options

    @functools.cached_property
    def keys(self) -> list[str]:
        """Every dotted key that some choice of options has: declared ones, and those written in YAML under untyped nodes."""
        keys = {each.name for each in fields(RunConfig) if each.name not in SETTINGS}
        for group, variants in SETTINGS.items():
            keys |= {f"{group}.{each.name}" for settings in variants.values() for each in fields(settings)}
        for group, options in self.groups.items():
            for option in options if group not in ("method", "control", "recipe") else ():  # those are written from the root
                keys |= {f"{group.replace('/', '.')}.{key}" for key in _dotted(self.content(group, option))}
        return sorted(keys)

    def content(self, group: str, option: str) -> Any:
        """What an option's YAML file holds; None for one that is not in conf/ or can't be read."""
        return _read_yaml(self.conf / group / f"{option}.yaml")

    def place(self, config: str) -> str:
        """Return where the file of ``prompt/mine`` or the like lies."""
        own = (folder / f"{config}.yaml" for folder in self.own)
        return next((str(path) for path in own if path.is_file()), f"conf/{config}.yaml")


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if not (prefix == "" and name in ("defaults", "hydra")):
                yield f"{prefix}{name}"
                yield from _dotted(value, f"{prefix}{name}.")


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return None


def _unreadable(text: str, known: Known) -> Problem:
    """Explain an override that Hydra's grammar refuses."""
    key, equals, value = text.partition("=")
    if not equals:
        near = did_you_mean(text, known.groups)
        return f"{text} is not an override", f"write key=value{'; ' + near if near else ''}"
    bare = value.strip("\"'")
    return f"the value of {key} can't be read: {value}", f"""quote it twice, once for the shell: '{key}="{bare}"'"""


def _bad_name(override: Override, known: Known, missing: str | None) -> Problem | None:
    """Explain a group, option or key that does not exist; None where the names are fine."""
    key = override.key_or_group
    text = override.input_line or key
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return None
    if key in known.groups:
        return None if override.is_delete() else _bad_option(override, key, known)
    if key in known.keys:
        return _elsewhere(key, known) if key == missing else None
    if key.startswith(OPEN):
        return None
    hint = ""
    if key.rpartition(".")[2] in LIGHTNING_KEYS:
        hint = f"did you mean {LIGHTNING_KEYS[key.rpartition('.')[2]]}?"
    hint = hint or did_you_mean(key, known.keys if "." in key else [*known.keys, *known.groups])
    parent = key.partition(".")[0]
    if not hint and "." in key and parent in SETTINGS:
        hint = f"keys of {parent}: " + ", ".join(each.name for each in fields(SETTINGS[parent]["settings"]))
    what = "no key" if "." in key else "no group or key"
    return f"{what} {key} (in {text})", hint or "`tofro run --help` lists every group and key"


def _bad_option(override: Override, group: str, known: Known) -> Problem | None:
    """Explain a choice that the group does not offer."""
    if override.is_sweep_override():
        values = [str(value) for value in override.sweep_string_iterator()] if override.is_discrete_sweep() else []
    else:
        values = [] if isinstance(override.value(), dict | list) else [str(override.value())]
    for value in values:
        if value not in known.groups[group] and not (group == "recipe" and value == "None"):
            near = did_you_mean(value, known.groups[group])
            options = f"{group} is one of: {', '.join(known.groups[group])}"
            return f"no {group} is called {value} (in {override.input_line})", f"{near} {options}" if near else options
    return None


def _elsewhere(key: str, known: Known) -> Problem | None:
    """Name the options with a key that only a variant of its group has, such as tuning.k; None where every option has it."""
    group = key.rpartition(".")[0]
    having = {settings for settings, _ in declarations(key)}
    variants = SETTINGS.get(group, {})
    if not having or having == set(variants.values()):
        return None
    named = [variant for variant, settings in variants.items() if settings in having]
    options = [
        option
        for option in known.groups[group]
        if any(variant in (known.content(group, option) or {}).get("defaults", []) for variant in named)
    ]
    return f"no key {key} in the chosen {group}", f"it belongs to {' and '.join(f'{group}={option}' for option in options)}"


def _sweep_without_flag(mistake: Exception, parsed: list[Override], known: Known) -> list[Problem]:
    """Explain several values given to one run."""
    if "multirun" not in str(mistake):
        return []
    problems = []
    for each in parsed:
        if each.is_sweep_override():
            a_list = "" if each.key_or_group in known.groups else f"; a list is written {each.key_or_group}=[...]"
            problems.append((f"{each.input_line} gives several values to one run", f"add -m to run each in turn{a_list}"))
    return problems


def _from_exception(mistake: Exception, overrides: list[str], known: Known) -> list[Problem]:
    """Read the problem out of the exception: a value of the wrong type, a key in a YAML file, anything else in its own words."""
    where = str(mistake).splitlines()[0] if str(mistake).startswith("In '") else ""
    where = f" (in {known.place(where.split(chr(39))[1])})" if where else ""
    cause = _cause(mistake)
    if isinstance(cause, KeyValidationError) and cause.full_key:
        name = str(cause.full_key).rpartition(".")[2]
        return [(f"{cause.full_key} must be named by text{where}", f'write it in a YAML file, in quotes: "{name}": ...')]
    if isinstance(cause, ValidationError) and cause.full_key:
        return [_wrong_type(cause, overrides, where)]
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        return [(f"no key {cause.full_key}{where}", did_you_mean(str(cause.full_key), known.keys))]
    if isinstance(cause, InterpolationResolutionError):
        return [unresolved(cause)]
    if isinstance(mistake, yaml.YAMLError):
        return [("a YAML file can't be read", str(mistake))]
    words = str(mistake) if isinstance(mistake, HydraException) and str(mistake) else str(cause)
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return [(lines[0], "\n".join(lines[1:6]))]


def _cause(mistake: BaseException) -> OmegaConfBaseException | None:
    """Return what OmegaConf said, which Hydra wraps; None where it said nothing."""
    cause: BaseException | None = mistake
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    return cause


def unresolved(error: InterpolationResolutionError) -> Problem:
    """Say which key refers to something that is not there, an environment variable above all."""
    said = str(error.msg or error).splitlines()[0]
    variable = re.search(r"Environment variable '(\w+)' not found", said)
    if variable:
        return f"{error.full_key} needs the environment variable {variable[1]}, which is not set", f"export {variable[1]}=..."
    return f"{error.full_key} refers to what is not there", said


def _wrong_type(cause: OmegaConfBaseException, overrides: list[str], where: str) -> Problem:
    """Say which type a key has, and what was given."""
    key = str(cause.full_key)
    given = next((text for text in overrides if text.lstrip("+").startswith(f"{key}=")), key)
    for settings, each in declarations(key):
        return f"{given} has the wrong type{where}", f"{key} is {expected(settings, each.name)} ({each.metadata['doc']})"
    return f"{given} has the wrong type{where}", str(cause.msg or cause).splitlines()[0]


def misspelt_defaults(conf: Path) -> list[str]:
    """Return one line for every entry of a defaults list under ``conf`` with an unknown keyword, group or option.

    Hydra reads ``optioal /tuning: head`` as a package and drops it without a word.
    """
    known = Known(conf)
    found = []
    for path in sorted(conf.rglob("*.yaml")):
        content = _read_yaml(path)
        entries = content.get("defaults", []) if isinstance(content, dict) else []
        parent = path.parent.relative_to(conf).as_posix()
        for entry in entries:
            problem = _bad_entry(entry, "" if parent == "." else parent, known)
            if problem:
                found.append(f"{path.relative_to(conf)}: {problem}")
    return found


def _bad_entry(entry: Any, parent: str, known: Known) -> str:
    """Return what is wrong with one entry of a defaults list, or an empty text."""
    if isinstance(entry, str):
        names = {"_self_", ROOT, *SETTINGS.get(parent, {}), *(path.stem for path in (known.conf / parent).glob("*.yaml"))}
        name = entry.partition("@")[0]  # what follows is the package
        return "" if name in names else _joined(f"no config {name}", did_you_mean(name, names))
    if not isinstance(entry, dict) or len(entry) != 1:
        return f"an entry is a name or one `group: option`, not {entry}"
    ((key, option),) = entry.items()
    *keywords, group = str(key).split()
    for keyword in keywords:
        if keyword not in ("override", "optional"):
            return _joined(f"{keyword} is no keyword of a defaults list", did_you_mean(keyword, ("override", "optional")))
    group = group.partition("@")[0]
    if group.startswith("hydra/"):
        return ""
    group = group[1:] if group.startswith("/") else f"{parent}/{group}".lstrip("/")
    if group not in known.groups:
        return _joined(f"no group {group}", did_you_mean(group, known.groups))
    if option is None or "optional" in keywords or "${" in str(option) or option in known.groups[group]:
        return ""
    return _joined(f"no {group} is called {option}", did_you_mean(str(option), known.groups[group]))


def _joined(problem: str, hint: str) -> str:
    return f"{problem}; {hint}" if hint else problem
