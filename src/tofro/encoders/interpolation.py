"""Between two models: every weight of an encoder on the straight line from one encoder's to another's (Wortsman et al. 2022).

In: encoders of one architecture, and how far to go. Out: a model with the encoder in between. Left out: what is made of it.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from tofro.encoders.model import Model


@torch.no_grad()
def interpolate(model: Model, pre: nn.Module, ft: nn.Module, alpha: float) -> Model:
    """Return a copy of ``model``, heads and all, whose encoder has the weights (1 - α) · pre + α · ft.

    With α = 0 they are those of ``pre`` and with α = 1 those of ``ft``, bit for bit.
    """
    between = copy.deepcopy(model)
    ours, theirs = pre.state_dict(), ft.state_dict()
    for name, weight in between.encoder.state_dict().items():
        weight.copy_(torch.lerp(ours[name], theirs[name], alpha))
    return between
