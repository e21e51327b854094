"""An encoder's weights as they were when training began: to measure how far it has gone, and to hold it back.

In: an encoder before it trains. Out: its distance from its start. Made before a checkpoint is loaded, so a resumed run measures
from the same place. Kept outside the module's state: it is what the run started from, not what it has learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Start:
    """The parameters of ``encoder`` and a copy of their values, which follows them to their device."""

    def __init__(self, encoder: nn.Module) -> None:
        self.parameters = list(encoder.parameters())
        self._values = [parameter.detach().clone() for parameter in self.parameters]

    @property
    def values(self) -> list[Tensor]:
        """The values at the start, where the parameters now are."""
        device = self.parameters[0].device
        if self._values[0].device != device:
            self._values = [value.to(device) for value in self._values]
        return self._values

    @torch.no_grad()
    def displacement(self) -> Tensor:
        """Return ‖θ − θ₀‖ / ‖θ₀‖ over all parameters, ()."""
        moved = torch._foreach_norm(torch._foreach_sub([each.detach() for each in self.parameters], self.values))
        size = torch._foreach_norm(self.values)
        return torch.stack(list(moved)).norm() / torch.stack(list(size)).norm()
