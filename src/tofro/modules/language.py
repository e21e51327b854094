"""The terms of a language loss on one model: masked words and sentence pairs, for pretraining and for replay alike.

In: a model with language heads, the states of a batch, how many predictions the global batch holds. Out: scalars whose sum over
micro-batches and ranks is the global mean.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import NO_TARGET, Batch
from tofro.encoders.model import Model
from tofro.objectives.language import divergences, mlm_loss, pair_loss

HEADS_OF = {"mlm_loss": ("mlm",), "pair_loss": ("pooler", "pair")}


def language_weights(objective: ObjectiveSettings) -> dict[str, float]:
    """Return the weight of each language term; 0 where it is not computed."""
    return {"mlm_loss": objective.mlm_weight, "pair_loss": objective.pair_weight if objective.pair != "none" else 0.0}


def language_heads(weights: dict[str, float]) -> tuple[str, ...]:
    """Return the heads that the terms of weight above 0 train."""
    return tuple(head for term, heads in HEADS_OF.items() if weights[term] for head in heads)


def mlm_term(model: Model, states: Tensor, batch: Batch, count: Tensor | int) -> Tensor:
    """Return the loss of the masked tokens from the states (T, D), a sum divided by ``count``."""
    assert batch.masked is not None
    assert batch.mask_targets is not None
    loss = _compiled_loss() if model.encoder.compiled and batch.fillers else masked_loss
    embedding = model.encoder.embeddings.tokens.weight
    return loss(model.heads["mlm"], states.index_select(0, batch.masked), embedding, batch.mask_targets) / count


def pair_term(model: Model, states: Tensor, batch: Batch, count: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return the loss of the pairs from the states (T, D), a sum divided by ``count``, and which were told right, (B,)."""
    assert batch.pair_labels is not None
    logits = model.pair_logits(states, batch)
    return pair_loss(logits, batch.pair_labels, count), (logits.argmax(-1) == batch.pair_labels).float()


def language_term(what: str, model: Model, states: Tensor, batch: Batch, count: Tensor | int) -> Tensor:
    """Return the loss of ``what``, mlm or pair."""
    return mlm_term(model, states, batch, count) if what == "mlm" else pair_term(model, states, batch, count)[0]


def divergence_term(
    twin: Model, told: Tensor, what: str, model: Model, states: Tensor, batch: Batch, count: Tensor | int
) -> Tensor:
    """Return Σ KL(twin ‖ model) over what the two say of masked tokens (mlm) or pairs, divided by ``count``.

    ``states`` (T, D) are the model's, ``told`` (T, D) the twin's.
    """
    if what == "pair":
        return divergences(model.pair_logits(states, batch), twin.pair_logits(told, batch)).sum() / count
    assert batch.masked is not None
    assert batch.mask_targets is not None
    rows = divergences(model.mlm_logits(states, batch.masked), twin.mlm_logits(told, batch.masked))
    return (rows * (batch.mask_targets != NO_TARGET)).sum() / count


def masked_loss(head: nn.Module, states: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Return the summed loss of masked tokens with states (M, D) and original ids ``targets`` (M,); ``embedding`` is (V, D)."""
    return mlm_loss(head(states, embedding), targets, 1)


@functools.cache
def _compiled_loss() -> Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]:
    """Return :func:`masked_loss` compiled: of all that a step computes, the (M, V) logits gain most from fused passes."""
    return torch.compile(masked_loss, dynamic=False)
