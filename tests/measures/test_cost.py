from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.measures.test_probes import make_batch, make_model
from tofro.measures.cost import Cost, Meter, count_flops, peak_memory_mb, reset_peak_memory


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


def test_a_meter_counts_the_tokens_and_the_flops_of_encoders_alone():
    model, batch = make_model(), make_batch([5, 5, 5], [0, 1, 2], [0, 1, 0])
    with torch.no_grad():
        forward = count_flops(lambda: model.encoder(batch))
        with Meter() as meter:
            for _ in range(40):
                model.encoder(batch)
            model.mlm_logits(torch.zeros(15, 8), torch.arange(4))
    assert meter.tokens == 40 * 15
    assert meter.flops == 40 * forward
    model.encoder(batch)
    assert meter.tokens == 40 * 15  # it has left


def test_a_meter_counts_training_three_times():
    model, batch = make_model(), make_batch([5, 5, 5], [0, 1, 2], [0, 1, 0])
    with torch.no_grad():
        forward = count_flops(lambda: model.encoder(batch))
    with Meter() as meter:
        model.encoder(batch).sum().backward()
        with torch.no_grad():
            model.encoder(batch)
    assert meter.flops == 4 * forward
    assert count_flops(lambda: model.encoder(batch).sum().backward()) == pytest.approx(3 * forward, rel=0.1)


def test_a_meter_leaves_when_an_encoder_fails():
    model, batch = make_model(), make_batch([5], [0], [0])
    with pytest.raises(AttributeError), Meter() as meter, torch.no_grad():
        model.encoder(replace(batch, cu_seqlens=None))
    with torch.no_grad():
        model.encoder(batch)
    assert meter.tokens == 5
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()
