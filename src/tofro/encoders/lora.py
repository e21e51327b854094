"""LoRA (Hu et al. 2022): a linear map keeps its weight and learns a difference of low rank, merged into the weight at the end.

In: a module and which of its linear maps. Out: the same module, changed in place: each of them becomes an :class:`Adapted`, whose
weight and bias are the same parameters under the same names, so that whatever goes by names (frozen weights, layers of an
optimizer, folders) need not know. Left out: what trains (tuning.py).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tofro.batches.order import key

DOWN, UP = "lora_a", "lora_b"


class Adapted(nn.Linear):
    """y = W x + b + (α / r) · B A drop(x), with A (r, D_in) and B (D_out, r).

    A is drawn from (seed, name) alone and B is zero, so that at first nothing is added. Dropout draws from torch's generator,
    which a module sets for every pass.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float, stream: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)
        self.scale, self.dropout = alpha / rank, dropout
        reach = linear.in_features**-0.5  # as an nn.Linear's own weights, which is what Hu et al.'s code draws
        drawn = torch.empty(rank, linear.in_features)
        drawn.uniform_(-reach, reach, generator=torch.Generator().manual_seed(stream % 2**63))
        self.lora_a = nn.Parameter(drawn.to(linear.weight))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        self.train(linear.training)

    def forward(self, states: Tensor) -> Tensor:
        """Return (T, D_out) for states (T, D_in)."""
        dropped = F.dropout(states, self.dropout, self.training and self.dropout > 0)
        return super().forward(states) + self.scale * F.linear(F.linear(dropped, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain linear map W + (α / r) · B A, in the memory of W."""
        self.weight += self.scale * (self.lora_b @ self.lora_a)
        with torch.device("meta"):
            plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        plain.weight, plain.bias = self.weight, self.bias
        return plain.train(self.training)


def adapt(module: nn.Module, targets: Collection[str], rank: int, alpha: float, dropout: float, seed: int) -> list[str]:
    """Adapt the linear maps whose dotted names end with one of ``targets``; return those of the targets that name none."""
    found = set()
    for name, part in list(module.named_modules()):
        ends = [target for target in targets if name == target or name.endswith(f".{target}")]
        if ends and isinstance(part, nn.Linear):
            assert not isinstance(part, Adapted), f"{name} is adapted already"
            module.set_submodule(name, Adapted(part, rank, alpha, dropout, key(seed, "lora", name)))
            found.update(ends)
    return [target for target in targets if target not in found]


def merge(module: nn.Module) -> None:
    """Merge every adapted map of ``module`` into its weight, in place; its names are what they were before :func:`adapt`."""
    for name, part in list(module.named_modules()):
        if isinstance(part, Adapted):
            module.set_submodule(name, part.merged())
