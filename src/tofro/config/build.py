"""From a config node to the object that its ``_target_`` makes, without letting a config run whatever it likes.

In: a node with ``_target_``, a dotted name. Out: what the target returns, or the target with the node's own keys filled in. The
name must start with an allowed prefix before anything is imported, and what it resolves to must be defined under an allowed
prefix too, so that ``os`` cannot be reached through a module of tofro that imports it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

# The rooms a config chooses from. config/ and cli.py are left out: a config must not extend this very list.
ROOMS = ("text", "tokens", "batches", "encoders", "objectives", "modules", "measures", "runs", "reports")
_allowed = [f"tofro.{room}." for room in ROOMS]


def trust(prefix: str) -> None:
    """Let targets under a module prefix be built too, for the rest of the process: ``my_package.`` or ``my_package.losses``."""
    bare = prefix.strip().rstrip(".")
    if not bare or not all(part.isidentifier() for part in bare.split(".")):
        raise ValueError(f"--trust {prefix}: give the name of a module, such as my_package or my_package.losses")
    if bare == "tofro" or bare.startswith("tofro."):
        raise ValueError(f"--trust {prefix}: what a config may choose from in tofro is fixed")
    if f"{bare}." not in _allowed:
        _allowed.append(f"{bare}.")


def trusted() -> list[str]:
    """Return the prefixes that ``trust`` has added."""
    return [prefix.rstrip(".") for prefix in _allowed[len(ROOMS) :]]


def build(node: DictConfig | Mapping[str, Any], *args: Any) -> Any:
    """Build what ``node._target_`` names.

    A target whose first parameter is called ``settings`` is called with the node as its settings dataclass and then ``args``:
    ``build(config.task)`` is ``read_task(TaskSettings(...))``. Any other target gets the node's own keys by name:
    ``build(config.tuning, model)`` is ``train_top_k(model, k=2)``, and without ``args`` the function comes back with the keys
    filled in: ``build(config.schedule)`` is ``partial(linear, warmup=0.06, decay=0.2)``.

    Raises ValueError for a target that is missing, not allowed, not found, or that has no parameter of a key's name.
    """
    target = resolve(_target_of(node))
    parameters = inspect.signature(target).parameters
    if next(iter(parameters), None) == "settings":
        return target(_settings(node), *args)
    keys = _keys(node)
    unknown = [name for name in keys if name not in parameters]
    if unknown:
        known = [name for name, each in parameters.items() if each.default is not inspect.Parameter.empty]
        raise ValueError(f"{_target_of(node)} has no key {unknown[0]}; it has {', '.join(known) or 'none'}")
    filled = functools.partial(target, **keys)
    return filled(*args) if args else filled


def resolve(name: str) -> Callable[..., Any]:
    """Return the function or class a dotted name stands for; ValueError where it is not allowed or does not exist."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or any(part.startswith("_") for part in parts):
        raise ValueError(f"_target_={name} is not a public dotted name, such as tofro.text.task.read_task")
    if not _is_allowed(name):
        raise ValueError(f"_target_={name} is not allowed. To trust its code, add --trust {parts[0]}")
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{module_name}.".startswith(f"{missing.name}."):
            raise  # the module is there, something it imports is not
        raise ValueError(f"_target_={name}: there is no module {missing.name}") from None
    found = getattr(module, attribute, None)
    if not (inspect.isfunction(found) or inspect.isclass(found)):
        raise ValueError(f"_target_={name}: {module_name} has no function or class {attribute}")
    if not _is_allowed(f"{found.__module__}.{found.__qualname__}"):
        raise ValueError(f"_target_={name} is not allowed: it comes from {found.__module__}")
    return found


def _is_allowed(name: str) -> bool:
    return name.startswith(tuple(_allowed))


def _target_of(node: DictConfig | Mapping[str, Any]) -> str:
    if isinstance(node, DictConfig) and OmegaConf.is_missing(node, "_target_"):
        name: Any = None
    else:
        name = node.get("_target_") if isinstance(node, Mapping | DictConfig) else None
    if not isinstance(name, str):
        raise ValueError(f"a config node names no _target_ to build: {node}")
    return name


def _settings(node: DictConfig | Mapping[str, Any]) -> Any:
    """Return the node as the dataclass it is typed by, or as a plain dict."""
    made = OmegaConf.to_object(node) if isinstance(node, DictConfig) else dict(node)
    assert is_dataclass(made) or isinstance(made, dict)
    return made


def _keys(node: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items() if name != "_target_"}
