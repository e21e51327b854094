"""The Hugging Face side of BERT: what its config.json says and how it names its tensors.

In and out: plain dictionaries and tensors, no files (folder.py has those). The tensors of the encoder and of the heads go by
the names of ``BertForPreTraining`` and ``BertForSequenceClassification``, whose classifier has the same name as that of
``BertForTokenClassification``, which has no pooler; a bare ``BertModel`` leaves out the ``bert.`` prefix.
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
from tofro.encoders.naming import Tensors, drop_copies, names_in, split_by
from tofro.encoders.settings import EncoderSettings

# The heads a Hugging Face class must have in its folder; a BertModel may have a pooler. A model is written as the first to fit.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "BertForSequenceClassification": ("pooler", "task"),
    "BertForTokenClassification": ("task",),
    "BertForPreTraining": ("mlm", "pooler", "pair"),
    "BertForMaskedLM": ("mlm",),
    "BertForNextSentencePrediction": ("pooler", "pair"),
    "BertModel": (),
}
LAYER_PREFIX = "bert.encoder.layer."
HEAD_PREFIXES = {"mlm": "cls.predictions.", "pooler": "bert.pooler.", "pair": "cls.seq_relationship.", "task": "classifier."}

_LAYER = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention.norm": ("attention.output.LayerNorm",),
    "feed_forward.up": ("intermediate.dense",),
    "feed_forward.down": ("output.dense",),
    "feed_forward.norm": ("output.LayerNorm",),
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
SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "segments": "type_vocab_size",
}
NEEDED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def names_of(ours: str) -> tuple[str, ...]:
    """Return the Hugging Face names of one of our parameters: three for a fused query-key-value tensor, else one."""
    return names_in(ours, _REST, LAYER_PREFIX, _LAYER)


def canonical(tensors: Mapping[str, Tensor], description: Description, source: str) -> Tensors:
    """Return the tensors of a BERT folder under the names of :func:`names_of`.

    Adds the prefix of a bare ``BertModel``, renames the gamma and beta of old folders, drops position indices, and drops the
    copies of tied tensors after checking that they are copies. ``source`` names the file in errors.
    """
    result: Tensors = {}
    for name, tensor in tensors.items():
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if name == "bert.embeddings.position_ids":
            continue
        if name in result:
            raise ValueError(f"{source}: holds the tensor {name} twice, under two names.")
        result[name] = tensor
    return drop_copies(result, _COPIES, source)


def split(tensors: Mapping[str, Tensor], architecture: str) -> tuple[Tensors, Tensors]:
    """Split tensors into those of ``architecture``, under its own names, and those of heads that it does not have."""
    inside = set(ARCHITECTURES[architecture]) | ({"pooler"} if architecture == "BertModel" else set())
    outside = tuple(prefix for head, prefix in HEAD_PREFIXES.items() if head not in inside)
    return split_by(tensors, outside, {"bert.": ""} if architecture == "BertModel" else {})


def describe(config: Mapping[str, Any], source: str) -> Description:
    """Read a config.json. ``source`` names the file in errors; what this encoder cannot do is a ValueError."""
    refuse(config, NEEDED, source)
    architecture = architecture_of(config, ARCHITECTURES, source)
    warn_of_attention_dropout(config, "attention_probs_dropout_prob", 0.1, source)
    sizes: dict[str, Any] = {ours: whole(config, theirs, source) for ours, theirs in SIZES.items()}
    settings = EncoderSettings(
        **sizes,
        norm_eps=number(config, "layer_norm_eps", 1e-12, source),
        init_std=number(config, "initializer_range", 0.02, source),
    )
    return described(config, settings, ARCHITECTURES, architecture, source)


def write_config(description: Description, dropout: float, tokens: SpecialTokens, architecture: str) -> dict[str, Any]:
    """Return the config.json of a model, for the Hugging Face class ``architecture``."""
    config = base_config("bert", description, dropout, architecture) | {"pad_token_id": tokens.pad_id}
    return config | (task_keys(description) if "task" in ARCHITECTURES[architecture] else {})


def base_config(model_type: str, description: Description, dropout: float, architecture: str) -> dict[str, Any]:
    """Return what the config.json of BERT and of its kin have in common."""
    settings = description.settings
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": description.vocabulary,
        **{theirs: getattr(settings, ours) for ours, theirs in SIZES.items()},
        "hidden_act": "gelu",
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None,
        "layer_norm_eps": settings.norm_eps,
        "initializer_range": settings.init_std,
        "tie_word_embeddings": True,
    }
