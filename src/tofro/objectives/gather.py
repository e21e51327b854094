"""All ranks' rows, with gradient: what makes a loss that compares rows exact under data parallelism.

In: this rank's rows (B, ...), of any number. Out: the rows of all ranks (K, ...), in order of rank. Each rank scores its own rows
against all keys; the gradient that other ranks' rows get here travels back to them, so that the ranks' gradients add up to that
of one process. A gather without that way back has another gradient, and one whose gradient is averaged a smaller one. With one
process nothing happens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


class Ranks:
    """The ranks that share a loss, each with its number of rows. All of them make it, and call :meth:`gather`, in the same
    order."""

    def __init__(self, rows: int) -> None:
        self.together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        self.sizes = _sizes(rows) if self.together else [rows]
        first = sum(self.sizes[: distributed.get_rank()]) if self.together else 0
        self.own = range(first, first + rows)  # this rank's rows among all

    @property
    def rows(self) -> int:
        """Number of rows K of all ranks."""
        return sum(self.sizes)

    def gather(self, rows: Tensor) -> Tensor:
        """Return all ranks' rows (K, ...), for this rank's (B, ...), with gradient to every one of them."""
        return _Gather.apply(rows, self.sizes) if self.together else rows


class _Gather(torch.autograd.Function):
    """Concatenates over ranks; backward sums over ranks and takes this rank's part."""

    @staticmethod
    def forward(context: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        context.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].contiguous().clone()
        distributed.all_reduce(whole)
        return whole.split(context.sizes)[distributed.get_rank()], None


def _sizes(rows: int) -> list[int]:
    """Return how many rows each rank has. Said over the CPU, so that no device waits."""
    sizes = [torch.zeros((), dtype=torch.int64) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, torch.tensor(rows))
    return [int(size) for size in sizes]
