"""Rotary positions: queries and keys are turned by an angle that grows with their place, so their product knows the distance.

In: positions ``(T,)`` of packed tokens, then queries and keys. Out: the same, turned (Su et al. 2021, RoFormer, section 3.2.2).
Pairs are (i, i + d/2) within a head, as in published checkpoints of this family. Sines and products are fp32 whatever the
precision of the states. Left out: scaled variants for longer texts.
"""

from __future__ import annotations

import torch
from torch import Tensor

Turn = tuple[Tensor, Tensor]  # cosines and sines, (T, 1, 1, d) each


def turns(positions: Tensor, width: int, base: float) -> Turn:
    """Return cosines and sines of position · base^(-2i/d) for heads of ``width`` d, each (T, 1, 1, d), fp32."""
    steps = torch.arange(0, width, 2, dtype=torch.int64, device=positions.device).float() / width
    angles = positions.float()[:, None] * (1.0 / base**steps)  # (T, d/2)
    angles = torch.cat([angles, angles], dim=-1)[:, None, None]
    return angles.cos(), angles.sin()


def turn(qkv: Tensor, by: Turn) -> Tensor:
    """Return ``qkv`` (T, 3, H, d) with queries and keys turned and values as they were."""
    cosines, sines = by
    turned = qkv[:, :2].float()
    low, high = turned.chunk(2, dim=-1)
    turned = turned * cosines + torch.cat([-high, low], dim=-1) * sines
    return torch.cat([turned.to(qkv.dtype), qkv[:, 2:]], dim=1)
