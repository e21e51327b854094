"""The Hugging Face side of DistilBERT: what its config.json says and how it names its tensors.

In and out: plain dictionaries and tensors, no files (folder.py has those). There are no segments, and no pooler but that of the
class that classifies texts, ``pre_classifier``. No class has a pair head; it lies in tofro_heads.safetensors.
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
from tofro.encoders.settings import DISTILBERT, EncoderSettings

ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "DistilBertForSequenceClassification": ("pooler", "task"),
    "DistilBertForTokenClassification": ("task",),
    "DistilBertForMaskedLM": ("mlm",),
    "DistilBertModel": (),
}
HEAD_PREFIXES = {"mlm": "vocab_", "pooler": "pre_classifier.", "pair": "pair.", "task": "classifier."}
LAYER_PREFIX = "distilbert.transformer.layer."

_LAYER = {
    "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention.output": ("attention.out_lin",),
    "attention.norm": ("sa_layer_norm",),
    "feed_forward.up": ("ffn.lin1",),
    "feed_forward.down": ("ffn.lin2",),
    "feed_forward.norm": ("output_layer_norm",),
}
_REST = {
    "encoder.embeddings.tokens": "distilbert.embeddings.word_embeddings",
    "encoder.embeddings.positions": "distilbert.embeddings.position_embeddings",
    "encoder.embeddings.norm": "distilbert.embeddings.LayerNorm",
    "heads.mlm": "vocab_projector",
    "heads.mlm.dense": "vocab_transform",
    "heads.mlm.norm": "vocab_layer_norm",
    "heads.pooler.dense": "pre_classifier",
    "heads.pair.linear": "pair",
    "heads.task.linear": "classifier",
}
_COPIES = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}
_BARE = {name: f"distilbert.{name}" for name in ("embeddings.", "transformer.")}
_SIZES = {
    "layers": "n_layers",
    "width": "dim",
    "heads": "n_heads",
    "intermediate": "hidden_dim",
    "max_positions": "max_position_embeddings",
}
_NEEDED = {"activation": "gelu", "tie_word_embeddings": True}


def names_of(ours: str) -> tuple[str, ...]:
    """Return the Hugging Face names of one of our parameters: three for a fused query-key-value tensor, else one."""
    return names_in(ours, _REST, LAYER_PREFIX, _LAYER)


def canonical(tensors: Mapping[str, Tensor], description: Description, source: str) -> Tensors:
    """Return the tensors of a DistilBERT folder under the names of :func:`names_of`.

    Adds the prefix of a bare ``DistilBertModel``, drops position indices, and drops the output weights after checking that they
    are the embedding. ``source`` names the file in errors.
    """
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith("embeddings.position_ids")}
    return drop_copies(rename_all(found, _BARE, source), _COPIES, source)


def split(tensors: Mapping[str, Tensor], architecture: str) -> tuple[Tensors, Tensors]:
    """Split tensors into those of ``architecture``, under its own names, and those of heads that it does not have."""
    outside = tuple(prefix for head, prefix in HEAD_PREFIXES.items() if head not in ARCHITECTURES[architecture])
    return split_by(tensors, outside, {"distilbert.": ""} if architecture == "DistilBertModel" else {})


def describe(config: Mapping[str, Any], source: str) -> Description:
    """Read a config.json. ``source`` names the file in errors; what this encoder cannot do is a ValueError."""
    refuse(config, _NEEDED, source)
    architecture = architecture_of(config, ARCHITECTURES, source)
    warn_of_attention_dropout(config, "attention_dropout", 0.1, source)
    sizes: dict[str, Any] = {ours: whole(config, theirs, source) for ours, theirs in _SIZES.items()}
    settings = EncoderSettings(
        family=DISTILBERT,
        **sizes,
        init_std=number(config, "initializer_range", 0.02, source),
    )
    return described(config, settings, ARCHITECTURES, architecture, source)


def write_config(description: Description, dropout: float, tokens: SpecialTokens, architecture: str) -> dict[str, Any]:
    """Return the config.json of a model, for the Hugging Face class ``architecture``."""
    settings = description.settings
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "distilbert",
        "vocab_size": description.vocabulary,
        **{theirs: getattr(settings, ours) for ours, theirs in _SIZES.items()},
        **_NEEDED,
        "sinusoidal_pos_embds": False,
        "dropout": dropout,
        "attention_dropout": 0.0,
        "seq_classif_dropout": dropout,
        "initializer_range": settings.init_std,
        "pad_token_id": tokens.pad_id,
    }
    return config | (task_keys(description) if "task" in ARCHITECTURES[architecture] else {})
