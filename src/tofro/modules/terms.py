"""Terms of a loss, and how strongly each pulls at each encoder's parameters.

In: the weighted terms of the micro-batches of a step. Out: ``{"<term>_<encoder>": norm}`` of the gradient over the global batch.
It takes a backward pass for each term and room for its gradient, so it is asked for (``trainer.gradients_every``). Norms at the
states, which cost nothing, are ``TransferModule.seen_by``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Term:
    """One named scalar of the loss and its weight at this step."""

    value: Tensor  # ()
    weight: float = 1.0


class TermGradients:
    """Gradients of terms, added up over the micro-batches of a step. Parameters and their own gradients are left alone."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # "<term>_<encoder>" -> flat gradient

    def add(self, terms: Mapping[str, Term], models: Mapping[str, nn.Module]) -> None:
        """Add the gradient of each weighted term of a micro-batch; an encoder that a term does not reach has none."""
        owners = [(encoder, parameter) for encoder, model in models.items() for parameter in model.parameters()]
        owners = [(encoder, parameter) for encoder, parameter in owners if parameter.requires_grad]
        for name, term in terms.items():
            if not term.value.requires_grad:
                continue
            found = torch.autograd.grad(
                term.weight * term.value, [parameter for _, parameter in owners], retain_graph=True, allow_unused=True
            )
            parts: dict[str, list[Tensor]] = {}
            for (encoder, parameter), gradient in zip(owners, found, strict=True):
                parts.setdefault(encoder, []).append(torch.zeros_like(parameter) if gradient is None else gradient)
            reached = {encoder for (encoder, _), gradient in zip(owners, found, strict=True) if gradient is not None}
            for encoder in [each for each in parts if each in reached]:
                flat = torch.cat([part.flatten().float() for part in parts[encoder]])
                key = f"{name}_{encoder}"
                self._sums[key] = self._sums[key] + flat if key in self._sums else flat

    def norms(self, ranks: int) -> dict[str, Tensor]:
        """Return the norm () of each sum over micro-batches and ranks, and forget the sums."""
        sums, self._sums = self._sums, {}
        for key in sorted(sums) if ranks > 1 else ():  # in one order on all ranks
            torch.distributed.all_reduce(sums[key])
        return {key: flat.norm() for key, flat in sums.items()}
