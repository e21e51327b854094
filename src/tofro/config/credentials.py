"""Credentials have no place in a config: what a run is told goes into files, pages and trackers, so a secret in it is refused.

In: overrides as they were typed, or a composed config. Out: problems that name the key and never the value. What is looked for is
narrow, so that paths and hashes pass: keys called like a credential, URLs that carry one, tokens of known shapes, and the values
of the environment's own secrets. A secret that looks like none of these can't be known for one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tofro.config.errors import ConfigError

Problem = tuple[str, str]

REMEDY = "take it out; tofro reads secrets from the environment alone (WANDB_API_KEY, HF_TOKEN) and writes them nowhere"
LONG_ENOUGH = 12  # characters of an environment's secret; a shorter one might be a word of a config by chance
NAME = r"(?:api_?key|access_?key|secret|secret_?key|private_?key|token|password|passwd|credentials?)"
KEY = re.compile(rf"(?:.*[._-])?{NAME}", re.IGNORECASE)  # the whole of a dotted key
VARIABLE = re.compile(rf"(?:.*_)?(?:{NAME}|KEY|PWD)", re.IGNORECASE)  # of the environment
MAPPING = re.compile(rf"[{{,]\s*['\"]?(?:[\w.-]*[._-])?{NAME}['\"]?\s*:\s*['\"]?[^\s,'\"}}]", re.IGNORECASE)  # {api_key: ...}
REPEATABLE = re.compile(r"[A-Za-z_][\w./-]{0,60}")  # a key that may be told to the user
# a template may well ask for a password, and a label be called secret
FREE_TEXT = ("prompt.words", "prompt.templates", "prompt.patterns", "prompt.slots")
SHAPES = {
    "a URL with a user's name or password": re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+@", re.IGNORECASE),
    "a URL with a credential": re.compile(
        rf"[?&;](?:[\w-]*[_-])?(?:{NAME}|awsaccesskeyid|key|sig|signature|auth)=[^&\s]", re.IGNORECASE
    ),
    "an access token": re.compile(
        r"(?<![A-Za-z0-9])(?:"
        r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
        r"|wandb_v\d_\w{16,}"
        r"|(?:AKIA|ASIA)[A-Z0-9]{16}"  # Amazon
        r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
        r"|xox[abprs]-[\w-]{10,}"  # Slack
        r"|sk-(?:proj-|ant-[a-z0-9]+-|or-[a-z0-9]+-)[\w-]{16,}|sk-[A-Za-z0-9]{32,}"
        r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"  # a JSON Web Token
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
}
# A key of wandb is 40 hex digits, and so is a commit: refused only where a key names neither data nor a model.
HEX = re.compile(r"[0-9a-f]{40}")
NAMES_DATA = re.compile(r"(?:.*[._])?(?:path|init_from|init_from_ft|outputs_dir|revision|dataset|config|tasks|few_shot_splits)")


def refuse_credentials(words: Iterable[str]) -> None:
    """Raise ConfigError for the overrides among ``words`` that carry a credential; the message repeats none."""
    secrets, problems = environment_secrets(), []
    for number, word in enumerate(words, start=1):
        key, _, value = word.lstrip("+~-").partition("=")
        key = key.partition("@")[0]
        what = _shaped(word, secrets) or _named(key, value)
        if what:
            told = key if REPEATABLE.fullmatch(key) and not _shaped(key, secrets) else f"word {number}"
            problems.append((f"{told} holds {what}", REMEDY))
    if problems:
        raise ConfigError(problems)


def credentials(config: DictConfig) -> Iterator[Problem]:
    """Yield the problems of a composed config's values, wherever they were written and whatever they refer to."""
    secrets = environment_secrets()
    for key, value in _leaves(config):
        what = _shaped(value, secrets) or _named(key, value)
        if what:
            yield f"{key} holds {what}", REMEDY


def environment_secrets() -> dict[str, str]:
    """Return the variables that are called like a credential and hold one, by name; the path of a file of credentials is none."""
    found = {name: value.strip() for name, value in os.environ.items() if VARIABLE.fullmatch(name)}
    return {name: value for name, value in found.items() if len(value) >= LONG_ENOUGH and not value.startswith(("/", "~"))}


def _shaped(text: str, secrets: Mapping[str, str]) -> str | None:
    """Say what credential a text looks like; None where it looks like none."""
    for name, secret in secrets.items():
        if secret in text:
            return f"the value of the environment's {name}"
    return next((what for what, shape in SHAPES.items() if shape.search(text)), None)


def _named(key: str, value: str) -> str | None:
    """Say what credential a value is by the name of its key; None where it is none."""
    bare = value.strip("\"' ")
    if bare in ("", "null", "None") or key.startswith(FREE_TEXT):
        return None
    if KEY.fullmatch(key) or MAPPING.search(value):
        return "a credential, by its name"
    if HEX.fullmatch(bare) and not NAMES_DATA.fullmatch(key):
        return "what looks like a key of wandb"
    return None


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value as text) of all that a config holds: what a reference refers to, a list under its key."""
    for name in range(len(node)) if isinstance(node, ListConfig) else list(node):
        try:
            value = None if OmegaConf.is_missing(node, name) else node[name]
        except OmegaConfBaseException:  # refers to what is not there, and is explained where it is used
            continue
        inner = key if isinstance(node, ListConfig) else f"{key}.{name}" if key else str(name)
        if isinstance(value, DictConfig | ListConfig):
            yield from _leaves(value, inner)
        elif value is not None:
            yield inner, str(value)
