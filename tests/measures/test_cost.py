from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tofro.measures.cost import Cost, count_flops, peak_memory_mb, reset_peak_memory


def test_a_matrix_product_is_two_flops_a_multiply_add_and_its_backward_twice_that():
    inputs, weights = torch.randn(6, 5, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    assert count_flops(lambda: inputs @ weights) == 2 * 6 * 5 * 3
    assert count_flops(lambda: (inputs @ weights).sum().backward()) == 3 * 2 * 6 * 5 * 3


@pytest.mark.parametrize("masked", [False, True])
def test_attention_on_the_cpu_is_counted(masked: bool):
    sequences, heads, length, width = 2, 4, 16, 8
    query, key, value = (torch.randn(sequences, heads, length, width, requires_grad=True) for _ in range(3))
    mask = torch.ones(sequences, 1, 1, length, dtype=torch.bool) if masked else None
    forward = 2 * 2 * sequences * heads * length * length * width  # scores and weighted values
    assert count_flops(lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=mask)) == forward
    both = count_flops(lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward())
    assert both == pytest.approx(3.5 * forward)  # the backward pass recomputes the scores: five products for two


def test_frozen_parts_cost_no_backward_pass():
    inputs, weights = torch.randn(6, 5), torch.randn(5, 3, requires_grad=True)
    assert count_flops(lambda: (inputs @ weights).sum().backward()) == 2 * 2 * 6 * 5 * 3


def test_peak_memory_grows_by_what_is_held():
    reset_peak_memory()
    before = peak_memory_mb()
    ballast = np.ones(int(before * 1e6 / 8) + 10_000_000)
    assert peak_memory_mb() >= ballast.nbytes / 1e6
    assert peak_memory_mb() < before + 2 * ballast.nbytes / 1e6


def test_cost_goes_into_a_result_by_name():
    names = ["seconds", "train_seconds", "steps", "tokens", "flops", "peak_memory_mb"]
    assert list(Cost(seconds=2.0).as_dict()) == names
