"""The Hugging Face side of RoBERTa and XLM-R: what their config.json says and how they name their tensors.

In and out: plain dictionaries and tensors, no files (folder.py has those). The layers are BERT's under another first name. Two
classes keep the pooler's weights in two places, the bare model in ``pooler`` and the one that classifies in ``classifier.dense``;
the canonical name is the former. No class has a pair head; it lies in tofro_heads.safetensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tofro.encoders import bert
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
from tofro.encoders.naming import Tensors, drop_copies, rename, rename_all, split_by
from tofro.encoders.settings import ROBERTA, XLM_ROBERTA, EncoderSettings

_HEADS = {
    "heads.mlm": "lm_head",
    "heads.mlm.dense": "lm_head.dense",
    "heads.mlm.norm": "lm_head.layer_norm",
    "heads.pooler.dense": "roberta.pooler.dense",
    "heads.pair.linear": "pair",
    "heads.task.linear": "classifier",
}
_COPIES = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
# What the class that classifies texts calls the tensors whose canonical names begin so.
_CLASSIFYING = {"roberta.pooler.": "classifier.", "classifier.": "classifier.out_proj."}


class Roberta:
    """One of the families that share RoBERTa's layout; they differ in the names of their classes."""

    def __init__(self, model_type: str, prefix: str) -> None:
        self.model_type = model_type
        self.classifying, self.bare = f"{prefix}ForSequenceClassification", f"{prefix}Model"
        self.ARCHITECTURES: dict[str, tuple[str, ...]] = {
            self.classifying: ("pooler", "task"),
            f"{prefix}ForTokenClassification": ("task",),
            f"{prefix}ForMaskedLM": ("mlm",),
            self.bare: (),
        }
        self.HEAD_PREFIXES = {"mlm": "lm_head.", "pooler": "roberta.pooler.", "pair": "pair.", "task": "classifier."}
        self.LAYER_PREFIX = "roberta.encoder.layer."

    def names_of(self, ours: str) -> tuple[str, ...]:
        """Return the canonical names of one of our parameters: three for a fused query-key-value tensor, else one."""
        module, _, kind = ours.rpartition(".")
        if module in _HEADS:
            return (f"{_HEADS[module]}.{kind}",)
        return tuple(f"roberta.{name.removeprefix('bert.')}" for name in bert.names_of(ours))

    def canonical(self, tensors: Mapping[str, Tensor], description: Description, source: str) -> Tensors:
        """Return the tensors of a folder under the names of :meth:`names_of`.

        Adds the prefix of a bare model, drops position indices, and drops the copies of tied tensors after checking that they
        are copies. A pooler beside the classifier's own dense map, which no class uses, is left out with a warning.
        """
        found = {name: tensor for name, tensor in tensors.items() if not name.endswith("embeddings.position_ids")}
        renamed = {bare: f"roberta.{bare}" for bare in ("embeddings.", "encoder.", "pooler.")}
        if "classifier.dense.weight" in found:
            renamed |= {theirs: ours for ours, theirs in reversed(_CLASSIFYING.items())}
            unused = [name for name in found if rename(name, renamed).startswith("roberta.pooler.") and "pooler" in name]
            if unused:
                warnings.warn(f"{source}: {', '.join(unused)} not read; {self.classifying} has no use for it.", stacklevel=2)
            found = {name: tensor for name, tensor in found.items() if name not in unused}
        return drop_copies(rename_all(found, renamed, source), _COPIES, source)

    def split(self, tensors: Mapping[str, Tensor], architecture: str) -> tuple[Tensors, Tensors]:
        """Split tensors into those of ``architecture``, under its own names, and those of heads that it does not have."""
        inside = self.ARCHITECTURES[architecture]
        if architecture == self.bare:
            inside = ("pooler",)  # it may have one
        outside = tuple(prefix for head, prefix in self.HEAD_PREFIXES.items() if head not in inside)
        named = {self.classifying: _CLASSIFYING, self.bare: {"roberta.": ""}}.get(architecture, {})
        return split_by(tensors, outside, named)

    def describe(self, config: Mapping[str, Any], source: str) -> Description:
        """Read a config.json. ``source`` names the file in errors; what this encoder cannot do is a ValueError."""
        refuse(config, bert.NEEDED, source)
        architecture = architecture_of(config, self.ARCHITECTURES, source)
        warn_of_attention_dropout(config, "attention_probs_dropout_prob", 0.1, source)
        sizes: dict[str, Any] = {ours: whole(config, theirs, source) for ours, theirs in bert.SIZES.items()}
        padding = config.get("pad_token_id", 1)
        if type(padding) is not int or not 0 <= padding < sizes["max_positions"] - 1:
            raise ValueError(
                f"{source}: pad_token_id is {padding!r}; positions are counted from the row after it, so it must be a whole "
                f"number below max_position_embeddings = {sizes['max_positions']}."
            )
        settings = EncoderSettings(
            family=self.model_type,
            **sizes | {"max_positions": sizes["max_positions"] - padding - 1},
            first_position=padding + 1,
            norm_eps=number(config, "layer_norm_eps", 1e-12, source),
            init_std=number(config, "initializer_range", 0.02, source),
        )
        return described(config, settings, self.ARCHITECTURES, architecture, source)

    def write_config(self, description: Description, dropout: float, tokens: SpecialTokens, architecture: str) -> dict[str, Any]:
        """Return the config.json of a model, for the Hugging Face class ``architecture``."""
        settings = description.settings
        config = bert.base_config(self.model_type, description, dropout, architecture) | {
            "max_position_embeddings": settings.max_positions + settings.unused_positions,
            "pad_token_id": settings.padding,
            "bos_token_id": tokens.cls_id,
            "eos_token_id": tokens.sep_id,
        }
        return config | (task_keys(description) if "task" in self.ARCHITECTURES[architecture] else {})


ROBERTA_FAMILY = Roberta(ROBERTA, "Roberta")
XLM_ROBERTA_FAMILY = Roberta(XLM_ROBERTA, "XLMRoberta")
