"""The Hugging Face side of BERT: what its config.json says and how it names its tensors.

In and out: plain dictionaries and tensors, no files (folder.py has those). The tensors of the encoder and of the heads go by
the names of ``BertForPreTraining`` and ``BertForSequenceClassification``; a bare ``BertModel`` leaves out the ``bert.`` prefix.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tofro.encoders.settings import EncoderSettings

# The heads a Hugging Face class must have in its folder; a BertModel may have a pooler. A model is written as the first to fit.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "BertForSequenceClassification": ("pooler", "task"),
    "BertForPreTraining": ("mlm", "pooler", "pair"),
    "BertForMaskedLM": ("mlm",),
    "BertForNextSentencePrediction": ("pooler", "pair"),
    "BertModel": (),
}
HEAD_PREFIXES = {"mlm": "cls.predictions.", "pooler": "bert.pooler.", "pair": "cls.seq_relationship.", "task": "classifier."}

_LAYER = {
    "attention.output": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward.norm": "output.LayerNorm",
}
_REST = {
    "encoder.embeddings.tokens": "bert.embeddings.word_embeddings",
    "encoder.embeddings.positions": "bert.embeddings.position_embeddings",
    "encoder.embeddings.segments": "bert.embeddings.token_type_embeddings",
    "encoder.embeddings.norm": "bert.embeddings.LayerNorm",
    "heads.mlm": "cls.predictions",
    "heads.mlm.dense": "cls.predictions.transform.dense",
    "heads.mlm.norm": "cls.predictions.transform.LayerNorm",
    "heads.pooler.dense": "bert.pooler.dense",
    "heads.pair.linear": "cls.seq_relationship",
    "heads.task.linear": "classifier",
}
_EMBEDDING = "bert.embeddings.word_embeddings.weight"
_COPIES = {"cls.predictions.decoder.weight": _EMBEDDING, "cls.predictions.decoder.bias": "cls.predictions.bias"}
_WIDTHS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "segments": "type_vocab_size",
}


@dataclass(frozen=True)
class Description:
    """What a config.json says about a model."""

    settings: EncoderSettings
    vocabulary: int
    heads: tuple[str, ...]  # those the named architecture must have
    labels: tuple[str, ...]  # of a task head, by class number
    regression: bool


def names_of(ours: str) -> tuple[str, ...]:
    """Return the Hugging Face names of one of our parameters: three for a fused query-key-value tensor, else one."""
    module, _, kind = ours.rpartition(".")
    if not module.startswith("encoder.layers."):
        return (f"{_REST[module]}.{kind}",)
    _, _, index, part = module.split(".", 3)
    layer = f"bert.encoder.layer.{index}"
    if part == "attention.qkv":
        return tuple(f"{layer}.attention.self.{role}.{kind}" for role in ("query", "key", "value"))
    return (f"{layer}.{_LAYER[part]}.{kind}",)


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's state dict under Hugging Face's names, each tensor in memory of its own, on the CPU."""
    tensors = {}
    for ours, tensor in state.items():
        names = names_of(ours)
        for name, part in zip(names, tensor.detach().chunk(len(names)), strict=True):
            tensors[name] = part.cpu().clone(memory_format=torch.contiguous_format)
    return tensors


def canonical(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return tensors of a BERT folder under the names that :func:`to_hugging_face` gives.

    Adds the prefix of a bare ``BertModel``, renames the gamma and beta of old folders, drops position indices, and drops the
    copies of tied tensors after checking that they are copies. ``source`` names the file in errors.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if name == "bert.embeddings.position_ids":
            continue
        if name in result:
            raise ValueError(f"{source}: holds the tensor {name} twice, under two names.")
        result[name] = tensor
    for copy, original in _COPIES.items():
        if copy in result:
            tensor = result.pop(copy)
            if not torch.equal(result.setdefault(original, tensor), tensor):
                raise ValueError(f"{source}: {copy} differs from {original}; tofro reads tied output weights only.")
    return result


def describe(config: Mapping[str, Any], source: str) -> Description:
    """Read a config.json. ``source`` names the file in errors; what this encoder cannot do is a ValueError."""
    _refuse(config, source)
    named = config.get("architectures") or [None]
    architecture = named[0] if isinstance(named, list) else named
    if architecture is not None and str(architecture) not in ARCHITECTURES:
        raise ValueError(f"{source}: architecture {architecture!r} is not read; known are {', '.join(ARCHITECTURES)}.")
    if _number(config, "attention_probs_dropout_prob", 0.1, source, zero=True) > 0:
        warnings.warn(f"{source}: attention dropout is 0 in tofro, whatever attention_probs_dropout_prob says.", stacklevel=2)
    sizes = {ours: _whole(config, theirs, source) for ours, theirs in _WIDTHS.items()}
    settings = EncoderSettings(
        **sizes,
        norm_eps=_number(config, "layer_norm_eps", 1e-12, source),
        init_std=_number(config, "initializer_range", 0.02, source),
    )
    labels, regression = _labels(config, source)
    return Description(settings, _whole(config, "vocab_size", source), ARCHITECTURES.get(architecture, ()), labels, regression)


def write_config(description: Description, dropout: float, pad_id: int, architecture: str) -> dict[str, Any]:
    """Return the config.json of a model, for the Hugging Face class ``architecture``."""
    settings = description.settings
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "bert",
        "vocab_size": description.vocabulary,
        **{theirs: getattr(settings, ours) for ours, theirs in _WIDTHS.items()},
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None,
        "layer_norm_eps": settings.norm_eps,
        "initializer_range": settings.init_std,
        "pad_token_id": pad_id,
        "tie_word_embeddings": True,
    }
    if "task" in ARCHITECTURES[architecture]:
        names = ("LABEL_0",) if description.regression else description.labels
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
        config["problem_type"] = "regression" if description.regression else "single_label_classification"
    return config


def _refuse(config: Mapping[str, Any], source: str) -> None:
    if "auto_map" in config:
        raise ValueError(f"{source}: auto_map names code, and tofro runs none; remove the key if this is a plain BERT.")
    if config.get("model_type") != "bert":
        raise ValueError(f"{source}: model_type is {config.get('model_type')!r}; tofro reads 'bert'.")
    needed = {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }
    for key, value in needed.items():
        found = config.get(key, value)
        if found != value:
            raise ValueError(f"{source}: {key} is {found!r}; tofro reads {value!r} only.")


def _whole(config: Mapping[str, Any], key: str, source: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise ValueError(f"{source}: {key} must be a positive whole number, not {value!r}.")
    return value


def _number(config: Mapping[str, Any], key: str, default: float, source: str, zero: bool = False) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{source}: {key} must be a {'number from 0' if zero else 'positive number'}, not {value!r}.")
    return float(value)


def _labels(config: Mapping[str, Any], source: str) -> tuple[tuple[str, ...], bool]:
    """Return the label names by class number and whether the task is a regression, as Hugging Face decides it."""
    mapping = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    try:
        numbered = {int(index): str(name) for index, name in mapping.items()}
        labels = tuple(numbered[index] for index in range(len(numbered)))
    except (AttributeError, KeyError, ValueError):
        raise ValueError(f"{source}: id2label must map the class numbers 0, 1, 2... to names, not {mapping!r}.") from None
    kind = config.get("problem_type")
    if kind not in (None, "regression", "single_label_classification"):
        raise ValueError(f"{source}: problem_type {kind!r} is not read; use regression or single_label_classification.")
    regression = kind == "regression" or (kind is None and len(labels) == 1)
    if regression and len(labels) != 1:
        raise ValueError(f"{source}: a regression has one output here, but id2label lists {len(labels)}.")
    return (() if regression else labels), regression
