"""The Hugging Face side of ModernBERT: what its config.json says and how it names its tensors.

In and out: plain dictionaries and tensors, no files (folder.py has those). ``ModernBertForMaskedLM`` and the two classes that
classify, texts or tokens, call their own dense map ``head``, so the canonical names tell them apart: ``mlm`` and ``pooler``. No
class has a pair head; it lies in tofro_heads.safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tofro.encoders.config_json import (
    Description,
    SpecialTokens,
    architecture_of,
    described,
    number,
    refuse,
    task_keys,
    warn_of_attention_dropout,
    whole,
)
from tofro.encoders.naming import Tensors, drop_copies, names_in, rename_all, split_by
from tofro.encoders.settings import MODERNBERT, EncoderSettings

ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "ModernBertForSequenceClassification": ("pooler", "task"),
    "ModernBertForTokenClassification": ("pooler", "task"),
    "ModernBertForMaskedLM": ("mlm",),
    "ModernBertModel": (),
}
HEAD_PREFIXES = {"mlm": "mlm.", "pooler": "pooler.", "pair": "pair.", "task": "classifier."}
LAYER_PREFIX = "model.layers."

_LAYER = {
    "attention.norm": ("attn_norm",),
    "attention.qkv": ("attn.Wqkv",),
    "attention.output": ("attn.Wo",),
    "feed_forward.norm": ("mlp_norm",),
    "feed_forward.up": ("mlp.Wi",),
    "feed_forward.down": ("mlp.Wo",),
}
_REST = {
    "encoder.embeddings.tokens": "model.embeddings.tok_embeddings",
    "encoder.embeddings.norm": "model.embeddings.norm",
    "encoder.norm": "model.final_norm",
    "heads.mlm": "mlm",
    "heads.mlm.dense": "mlm.dense",
    "heads.mlm.norm": "mlm.norm",
    "heads.pooler.dense": "pooler.dense",
    "heads.pooler.norm": "pooler.norm",
    "heads.pair.linear": "pair",
    "heads.task.linear": "classifier",
}
# What a class calls the tensors whose canonical names begin so.
_IN_CLASS = {
    "ModernBertForSequenceClassification": {"pooler.": "head."},
    "ModernBertForTokenClassification": {"pooler.": "head."},
    "ModernBertForMaskedLM": {"mlm.bias": "decoder.bias", "mlm.": "head."},
    "ModernBertModel": {"model.": ""},
}
_COPIES = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
_SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "local_window": "local_attention",
}
_NEEDED = {
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
_BASES = {
    "rotary_base_global": ("full_attention", "global_rope_theta", 160_000.0),
    "rotary_base_local": ("sliding_attention", "local_rope_theta", 10_000.0),
}
_EVERY = "global_attn_every_n_layers"


def names_of(ours: str) -> tuple[str, ...]:
    """Return the canonical name of one of our parameters."""
    return names_in(ours, _REST, LAYER_PREFIX, _LAYER)


def canonical(tensors: Mapping[str, Tensor], description: Description, source: str) -> Tensors:
    """Return the tensors of a ModernBERT folder under the names of :func:`names_of`.

    Adds the prefix of a bare ``ModernBertModel``, tells the two meanings of ``head`` apart, and drops the output weights after
    checking that they are the embedding. ``source`` names the file in errors.
    """
    classifies = "task" in description.heads or (not description.heads and "classifier.weight" in tensors)
    renamed = {"head.": "pooler." if classifies else "mlm.", "decoder.bias": "mlm.bias"}
    renamed |= {name: f"model.{name}" for name in ("embeddings.", "layers.", "final_norm.")}
    return drop_copies(rename_all(tensors, renamed, source), _COPIES, source)


def split(tensors: Mapping[str, Tensor], architecture: str) -> tuple[Tensors, Tensors]:
    """Split tensors into those of ``architecture``, under its own names, and those of heads that it does not have."""
    outside = tuple(prefix for head, prefix in HEAD_PREFIXES.items() if head not in ARCHITECTURES[architecture])
    return split_by(tensors, outside, _IN_CLASS[architecture])


def describe(config: Mapping[str, Any], source: str) -> Description:
    """Read a config.json. ``source`` names the file in errors; what this encoder cannot do is a ValueError."""
    refuse(config, _NEEDED, source)
    architecture = architecture_of(config, ARCHITECTURES, source)
    warn_of_attention_dropout(config, "attention_dropout", 0.0, source)
    sizes: dict[str, Any] = {ours: whole(config, theirs, source) for ours, theirs in _SIZES.items()}
    pooling = config.get("classifier_pooling", "cls")
    if pooling not in ("cls", "mean"):
        raise ValueError(f"{source}: classifier_pooling is {pooling!r}; tofro reads cls or mean.")
    if sizes["local_window"] % 2:
        raise ValueError(f"{source}: local_attention is {sizes['local_window']}; tofro reads even numbers only.")
    settings = EncoderSettings(
        family=MODERNBERT,
        **sizes,
        global_every=_global_every(config, sizes["layers"], source),
        **_bases(config, source),
        norm_eps=number(config, "norm_eps", 1e-5, source),
        init_std=number(config, "initializer_range", 0.02, source),
        head_pooling=pooling,
    )
    return described(config, settings, ARCHITECTURES, architecture, source)


def write_config(description: Description, dropout: float, tokens: SpecialTokens, architecture: str) -> dict[str, Any]:
    """Return the config.json of a model, for the Hugging Face class ``architecture``.

    In the keys of the first ModernBERT folders, which every version of transformers that knows the family reads.
    """
    settings = description.settings
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "modernbert",
        "vocab_size": description.vocabulary,
        **{theirs: getattr(settings, ours) for ours, theirs in _SIZES.items()},
        _EVERY: settings.global_every,
        **{key: getattr(settings, ours) for ours, (_, key, _) in _BASES.items()},
        **_NEEDED,
        "norm_eps": settings.norm_eps,
        "initializer_range": settings.init_std,
        "embedding_dropout": dropout,
        "mlp_dropout": dropout,
        "attention_dropout": 0.0,
        "classifier_dropout": dropout,
        "classifier_pooling": settings.head_pooling,
        "pad_token_id": tokens.pad_id,
        "bos_token_id": tokens.cls_id,
        "cls_token_id": tokens.cls_id,
        "eos_token_id": tokens.sep_id,
        "sep_token_id": tokens.sep_id,
    }
    return config | (task_keys(description) if "task" in ARCHITECTURES[architecture] else {})


def _global_every(config: Mapping[str, Any], layers: int, source: str) -> int:
    """Return n where every n-th layer attends globally, from the number itself or from the list that newer folders have."""
    given = whole(config, _EVERY, source) if config.get(_EVERY) is not None else None
    kinds = config.get("layer_types")
    if kinds is None:
        return given or 3
    fits = [
        every
        for every in (given or 3, *range(1, layers + 1))
        if kinds == ["sliding_attention" if index % every else "full_attention" for index in range(layers)]
    ]
    if not fits:
        raise ValueError(f"{source}: layer_types must repeat one full_attention and then only sliding_attention, not {kinds!r}.")
    return fits[0]


def _bases(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the bases of the rotary positions, from either place where a folder may have them."""
    bases: dict[str, Any] = {}
    parameters = config.get("rope_parameters") or {}
    if config.get("rope_scaling") is not None:
        raise ValueError(f"{source}: rope_scaling is not read; tofro knows plain rotary positions only.")
    for ours, (kind, key, default) in _BASES.items():
        found = parameters.get(kind, {}) if isinstance(parameters, Mapping) else None
        if not isinstance(found, Mapping) or found.get("rope_type", "default") != "default":
            raise ValueError(f"{source}: rope_parameters of {kind} is {found!r}; tofro reads rope_type default only.")
        bases[ours] = number(found, "rope_theta", number(config, key, default, source), source)
    return bases
