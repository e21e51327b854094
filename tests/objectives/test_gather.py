"""Alignments over ranks: rows of one rank against all keys add up to one process, unequal rows too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.ranks import together

from tofro.objectives import alignment
from tofro.objectives.gather import Ranks
from tofro.runs import ranks

ROWS, WIDTH = 15, 8
CUTS = {1: [15], 2: [4, 11], 4: [5, 1, 2, 7]}  # rows of each rank
LOSSES: dict[str, dict[str, Any]] = {
    "infonce": {},
    "infonce leave_out": {"same_label": "leave_out"},
    "supcon": {},
    "cosine": {},
    "mse": {},
    "kl": {},
}


def losses_and_gradients(name: str, dtype: torch.dtype) -> tuple[float, torch.Tensor]:
    """Return this rank's part of the loss, and the gradient at two matrices that make h_pre and h_ft, added up over ranks."""
    size, rank = ranks.world_size(), ranks.rank()
    draw = torch.Generator().manual_seed(4)
    texts, maps = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((2, ROWS, WIDTH), (2, WIDTH, WIDTH)))
    labels = torch.randint(3, (ROWS,), generator=draw)
    first = sum(CUTS[size][:rank])
    mine = slice(first, first + CUTS[size][rank])
    weights = maps.to(dtype).requires_grad_()
    h_pre, h_ft = (torch.tanh(texts[side, mine].to(dtype) @ weights[side]) for side in (0, 1))
    function = getattr(alignment, name.partition(" ")[0])
    loss = function(h_pre, h_ft, labels[mine], **LOSSES[name]) * (len(h_pre) / ROWS)
    loss.backward()
    gradient = weights.grad.clone()
    if size > 1:
        torch.distributed.all_reduce(gradient)
    return float(loss.detach()), gradient


def everything() -> dict[str, tuple[float, torch.Tensor]]:
    return {f"{name} {dtype}": losses_and_gradients(name, dtype) for name in LOSSES for dtype in (torch.float64, torch.float32)}


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_add_up_to_one_process(size: int) -> None:
    expected, found = everything(), together(size, everything)
    for case, (loss, gradient) in expected.items():
        tolerance = 1e-12 if "float64" in case else 2e-6
        assert abs(sum(one[case][0] for one in found) - loss) <= tolerance * abs(loss), case
        for one in found:
            assert (one[case][1] - gradient).norm() <= tolerance * gradient.norm(), case


def detached() -> torch.Tensor:
    """Return the gradient at the keys where a rank gathers without the way back."""
    rows = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    everyone = Ranks(2)
    (everyone.gather(rows).sum() * (1 + ranks.rank())).backward()
    return rows.grad


def test_a_gathered_row_gets_the_gradients_of_all_ranks() -> None:
    assert all((gradient == 3).all() for gradient in together(2, detached))  # 1 from the first, 2 from the second
    assert (detached() == 1).all()


def test_rows_come_in_the_order_of_ranks() -> None:
    found = together(4, _numbered)
    assert all(torch.equal(keys, torch.arange(10)) for _, keys in found)
    assert [own for own, _ in found] == [range(1), range(1, 3), range(3, 6), range(6, 10)]


def _numbered() -> tuple[range, torch.Tensor]:
    rank = ranks.rank()
    everyone = Ranks(rank + 1)
    return everyone.own, everyone.gather(torch.arange(rank + 1) + rank * (rank + 1) // 2)
