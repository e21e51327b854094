"""What an alignment learns beside the encoders: projectors, and the temperature where it is learnt.

In: pooled states (B, D) of one encoder. Out: what the alignment compares, (B, D'). Dropped when the encoders are evaluated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tofro.objectives.settings import AlignmentSettings, ContrastiveSettings

COLDEST = 0.01  # τ, where similarities are multiplied by 100 (Radford et al. 2021)


class Projection(nn.Module):
    """The projectors of ``pre`` and ``ft``, which may be one, and the temperature."""

    def __init__(self, settings: AlignmentSettings, widths: dict[str, int], seed: int) -> None:
        super().__init__()
        if widths["pre"] != widths["ft"] and (settings.projector == "none" or settings.projector_shared):
            raise ValueError(
                f"alignment.projector: pre has width {widths['pre']} and ft {widths['ft']}; choose one for each, linear or mlp"
            )
        made = {name: projector(settings.projector, widths[name], widths["ft"], seed) for name in ("ft", "pre")}
        if settings.projector_shared:
            made["pre"] = made["ft"]
        self.projectors = nn.ModuleDict(made)
        self.changes = settings.projector != "none"
        self.log_scale: nn.Parameter | None = None
        if isinstance(settings, ContrastiveSettings) and settings.learn_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(settings.temperature)))

    def forward(self, name: str, vectors: Tensor) -> Tensor:
        """Return the projected vectors of encoder ``name``."""
        projected: Tensor = self.projectors[name](vectors)
        return projected

    @property
    def temperature(self) -> Tensor | None:
        """τ (), learnt and kept in [0.01, 1]; None where it is a constant of the loss."""
        return None if self.log_scale is None else (-self.log_scale).exp().clamp(COLDEST, 1.0)


def projector(kind: str, width_in: int, width_out: int, seed: int) -> nn.Module:
    """Return the map before the alignment: identity, one linear layer, or two with a ReLU (Chen et al. 2020)."""
    if kind == "none":
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "linear":
            return nn.Linear(width_in, width_out, bias=False)
        return nn.Sequential(nn.Linear(width_in, width_in), nn.ReLU(), nn.Linear(width_in, width_out))
