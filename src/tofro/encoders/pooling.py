"""From the states of tokens to one vector per sequence.

In: states ``(T, D)`` and their batch. Out: ``(B, D)``. Left out: the pooler of BERT's heads, which has weights (heads.py).
"""

from __future__ import annotations

from torch import Tensor

from tofro.batches.types import Batch
from tofro.encoders.layout import Layout

POOLINGS = ("mean", "cls")


def first_states(states: Tensor, batch: Batch) -> Tensor:
    """Return the state of each sequence's first token, [CLS], (B, D)."""
    return states.index_select(0, batch.cu_seqlens[: batch.size].long())


def mean_states(states: Tensor, batch: Batch) -> Tensor:
    """Return the mean state of each sequence's tokens, special ones included, (B, D) in fp32.

    The sum is taken in fp32 whatever the precision of the states. This is the mean pooling of Reimers and Gurevych (2019).
    """
    layout = Layout(batch.cu_seqlens, batch.max_length, states.shape[0])
    wide = states if states.element_size() >= 4 else states.float()
    if layout.equal:
        return wide.view(layout.size, layout.max_length, -1).mean(1)[: batch.size]
    total = wide.new_zeros(layout.size, states.shape[1]).index_add(0, layout.rows, wide)
    return (total / layout.lengths[:, None])[: batch.size]


def pool(states: Tensor, batch: Batch, how: str = "mean") -> Tensor:
    """Return one vector per sequence, (B, D), ``how`` being ``mean`` or ``cls``."""
    if how == "mean":
        return mean_states(states, batch)
    if how == "cls":
        return first_states(states, batch)
    raise ValueError(f"pooling: {how!r} is not known; use mean or cls.")
