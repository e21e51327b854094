"""Names of tensors, whichever family it is: from ours to Hugging Face's, and from one of a folder's names to the canonical one.

In: names, tensors by name, and a family's own tables of names. Out: the same tensors under other names, split, or without copies.
The tables stand in the families' files; what a config.json says is in config_json.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def names_in(ours: str, rest: Mapping[str, str], layer_prefix: str, layer: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the canonical names of one of our parameters: several where ours holds them stacked, as query, key and value.

    ``layer`` has the names of a layer's modules, without ``layer_prefix`` and number, ``rest`` those of all other modules.
    """
    module, _, kind = ours.rpartition(".")
    if not module.startswith("encoder.layers."):
        return (f"{rest[module]}.{kind}",)
    _, _, index, part = module.split(".", 3)
    return tuple(f"{layer_prefix}{index}.{name}.{kind}" for name in layer[part])


def split_by(tensors: Mapping[str, Tensor], outside: tuple[str, ...], beginnings: Mapping[str, str]) -> tuple[Tensors, Tensors]:
    """Split canonical tensors into a class's own, renamed by ``beginnings``, and those whose names begin as ``outside``."""
    main = {rename(name, beginnings): tensor for name, tensor in tensors.items() if not name.startswith(outside)}
    return main, {name: tensor for name, tensor in tensors.items() if name.startswith(outside)}


def rename(name: str, beginnings: Mapping[str, str]) -> str:
    """Return ``name`` with the first of ``beginnings`` that it has replaced by what stands for it."""
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def rename_all(tensors: Mapping[str, Tensor], beginnings: Mapping[str, str], source: str) -> Tensors:
    """Return ``tensors`` under the names that :func:`rename` gives them; two that get one name are a ValueError."""
    result: Tensors = {}
    for old, tensor in tensors.items():
        name = rename(old, beginnings)
        if name in result:
            raise ValueError(f"{source}: holds the tensor {name} twice, under two names.")
        result[name] = tensor
    return result


def drop_copies(tensors: Tensors, copies: Mapping[str, str], source: str) -> Tensors:
    """Return ``tensors`` without those that tying makes copies of others; a copy that differs is a ValueError."""
    result = dict(tensors)
    for copy, original in copies.items():
        if copy in result:
            tensor = result.pop(copy)
            if not torch.equal(result.setdefault(original, tensor), tensor):
                raise ValueError(f"{source}: {copy} differs from {original}; tofro reads tied output weights only.")
    return result
