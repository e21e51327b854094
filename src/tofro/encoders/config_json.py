"""What a family's config.json says, whichever family it is: numbers, labels, classes and their heads.

In: the dictionary of a config.json, named by ``source`` in errors. Out: :class:`Description` and its pieces; a value that this
encoder cannot honour is a ValueError. :class:`Family` is what the families' own files offer folder.py. No files here.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tofro.encoders.naming import Tensors
from tofro.encoders.settings import EncoderSettings


class SpecialTokens(Protocol):
    """The ids that a config.json names."""

    @property
    def pad_id(self) -> int:
        """Id of [PAD]."""

    @property
    def cls_id(self) -> int:
        """Id of [CLS]."""

    @property
    def sep_id(self) -> int:
        """Id of [SEP]."""


@dataclass(frozen=True)
class Description:
    """What a config.json says about a model."""

    settings: EncoderSettings
    vocabulary: int
    heads: tuple[str, ...]  # those the named architecture must have
    labels: tuple[str, ...]  # of a task head, by class number
    regression: bool
    words: bool = False  # whether the task head tags words


class Family(Protocol):
    """How one ``model_type`` of Hugging Face writes its config.json and names its tensors.

    A *canonical* name is unique among the tensors of encoder and heads together; the names in a file may depend on the class.
    """

    # The heads a Hugging Face class must have in its folder. A model is written as the first to fit (:func:`fitting`).
    ARCHITECTURES: dict[str, tuple[str, ...]]
    HEAD_PREFIXES: dict[str, str]  # how the canonical names of each head begin
    LAYER_PREFIX: str  # how the canonical names of layers begin, before their number

    def names_of(self, ours: str) -> tuple[str, ...]:
        """Return the canonical names of one of our parameters: several where ours holds them stacked."""

    def canonical(self, tensors: Mapping[str, Tensor], description: Description, source: str) -> Tensors:
        """Return the tensors of a folder under canonical names, without copies of tied ones."""

    def split(self, tensors: Mapping[str, Tensor], architecture: str) -> tuple[Tensors, Tensors]:
        """Split canonical tensors into those of ``architecture``, under its names, and those of heads it does not have."""

    def describe(self, config: Mapping[str, Any], source: str) -> Description:
        """Read a config.json."""

    def write_config(self, description: Description, dropout: float, tokens: SpecialTokens, architecture: str) -> dict[str, Any]:
        """Return the config.json of a model, for the class ``architecture``."""


def tags_words(architecture: str | None) -> bool:
    """Say whether the task head of a class answers for words."""
    return architecture is not None and architecture.endswith("ForTokenClassification")


def fitting(architectures: Mapping[str, tuple[str, ...]], heads: Collection[str], words: bool) -> str:
    """Return the first class whose heads a model has; its task head, if it has one, answers for words or for texts."""
    return next(
        name
        for name, needed in architectures.items()
        if set(needed) <= set(heads) and (tags_words(name) == words or "task" not in needed)
    )


def refuse(config: Mapping[str, Any], needed: Mapping[str, Any], source: str) -> None:
    """Raise ValueError for a config that names code, or where a key of ``needed`` is there with another value."""
    if "auto_map" in config:
        kind = config.get("model_type")
        raise ValueError(f"{source}: auto_map names code, and tofro runs none; remove the key if this is a plain {kind} model.")
    for key, value in needed.items():
        found = config.get(key, value)
        if found != value:
            raise ValueError(f"{source}: {key} is {found!r}; tofro reads {value!r} only.")


def architecture_of(config: Mapping[str, Any], known: Mapping[str, tuple[str, ...]], source: str) -> str | None:
    """Return the class that a config names, None where it names none."""
    named = config.get("architectures") or [None]
    architecture = named[0] if isinstance(named, list) else named
    if architecture is not None and str(architecture) not in known:
        raise ValueError(f"{source}: architecture {architecture!r} is not read; known are {', '.join(known)}.")
    return None if architecture is None else str(architecture)


def described(
    config: Mapping[str, Any],
    settings: EncoderSettings,
    architectures: Mapping[str, tuple[str, ...]],
    architecture: str | None,
    source: str,
) -> Description:
    """Return what a config.json says, of which the family's own file has read the ``settings`` and the class it names."""
    words = tags_words(architecture)
    labels, regression = read_labels(config, source, words)
    heads = architectures[architecture] if architecture else ()
    return Description(settings, whole(config, "vocab_size", source), heads, labels, regression, words)


def warn_of_attention_dropout(config: Mapping[str, Any], key: str, default: float, source: str) -> None:
    """Warn where a folder asks for dropout of attention weights, which no backend has."""
    if number(config, key, default, source, zero=True) > 0:
        warnings.warn(f"{source}: attention dropout is 0 in tofro, whatever {key} says.", stacklevel=2)


def task_keys(description: Description) -> dict[str, Any]:
    """Return what a config.json says about a task head."""
    names = ("LABEL_0",) if description.regression else description.labels
    kind = "regression" if description.regression else "single_label_classification"
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        **({} if description.words else {"problem_type": kind}),
    }


def whole(config: Mapping[str, Any], key: str, source: str) -> int:
    """Return a positive whole number, which must be there."""
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise ValueError(f"{source}: {key} must be a positive whole number, not {value!r}.")
    return value


def number(config: Mapping[str, Any], key: str, default: float, source: str, zero: bool = False) -> float:
    """Return a positive number, with ``zero`` one from 0."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{source}: {key} must be a {'number from 0' if zero else 'positive number'}, not {value!r}.")
    return float(value)


def read_labels(config: Mapping[str, Any], source: str, words: bool = False) -> tuple[tuple[str, ...], bool]:
    """Return the label names by class number and whether the task is a regression, as Hugging Face decides it.

    Tags of ``words`` are never one, whatever ``problem_type`` says.
    """
    mapping = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    try:
        numbered = {int(index): str(name) for index, name in mapping.items()}
        labels = tuple(numbered[index] for index in range(len(numbered)))
    except (AttributeError, KeyError, ValueError):
        raise ValueError(f"{source}: id2label must map the class numbers 0, 1, 2... to names, not {mapping!r}.") from None
    if words:
        return labels, False
    kind = config.get("problem_type")
    if kind not in (None, "regression", "single_label_classification"):
        raise ValueError(f"{source}: problem_type {kind!r} is not read; use regression or single_label_classification.")
    regression = kind == "regression" or (kind is None and len(labels) == 1)
    if regression and len(labels) != 1:
        raise ValueError(f"{source}: a regression has one output here, but id2label lists {len(labels)}.")
    return (() if regression else labels), regression
