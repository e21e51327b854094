"""How representations lie on the unit sphere: are paired ones near, and do all of them fill it?

In: rows (B, D) of one model, or of two for the same texts. Out: scalars in fp32 (Wang and Isola 2020, equations 1 and 2, α = 2, t
= 2). Watched in training and measured after it; no loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment_distance(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean over rows of ‖u_i − v_i‖², u and v the rows of (B, D) scaled to length 1; 0 is aligned, 2 is unrelated."""
    return (F.normalize(one.float(), dim=-1) - F.normalize(other.float(), dim=-1)).square().sum(-1).mean()


def uniformity(rows: Tensor) -> Tensor:
    """Return log of the mean over pairs i < j of exp(−2 ‖u_i − u_j‖²), u as above; the lower, the more evenly spread.

    0 where all rows point one way. NaN for fewer than two rows, which make no pair.
    """
    return torch.pdist(F.normalize(rows.float(), dim=-1)).square().mul(-2).exp().mean().log()
