"""What holds an encoder near where it started.

In: parameters and their values at the start. Out: a scalar. Left out: replay of masked words, which is a language loss
(language.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def l2_sp(parameters: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """Return ½ Σ (θ − θ₀)² over all parameters (Li et al. 2018, equation 3, without the term of the new head)."""
    differences = torch._foreach_sub(list(parameters), list(start))
    return torch.stack([difference.square().sum() for difference in differences]).sum() / 2
