"""Mixed precision from the command to the result, on a CPU."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

import tofro


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_bf16_learns_what_fp32_learns(small: list[str], family: str) -> None:
    """Losses of every step and every evaluation within 2%, from the same start; the weights kept are fp32."""
    encoder = ["encoder=modernbert_tiny"] if family == "modernbert" else []
    overrides = [*encoder, *small, "method=pretrain", "method.dropout=0", "budget.steps=12", "method.measure=false"]
    full, half = (tofro.run([*overrides, f"budget.precision={precision}"]) for precision in ("32", "bf16"))
    assert full.folder != half.folder  # precision bears on the result
    rows = [[json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()] for run in (full, half)]
    assert len(rows[0]) > 12
    losses = [[{name: value for name, value in row.items() if "loss" in name} for row in each] for each in rows]
    assert losses[0] != losses[1]
    for one, other in zip(*losses, strict=True):
        assert other == pytest.approx(one, rel=2e-2)
    weights = load_file(half.folder / "models" / "pre" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}
