"""Whether the device at hand multiplies in bf16: some CPUs do it in software, at a hundredth of fp32's speed.

In: a device and a precision. Out: GFLOP/s, and a warning where a run asks for what slows it down. ``tofro doctor`` prints
the same numbers beforehand.
"""

from __future__ import annotations

import time
import warnings

from tofro.modules.settings import BudgetSettings
from tofro.runs import ranks

SIDE = 512  # of the square matrices multiplied
SECONDS = 0.25  # measured per precision


def matrix_speed(device: str, precision: str) -> float:
    """Return GFLOP/s of a product of two square matrices in ``32`` or ``bf16``: the best of those that fit a quarter second."""
    import torch

    kind = {"32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = (torch.randn(SIDE, SIDE, device=device).to(kind) for _ in range(2))
    best = float("inf")
    end = now = time.perf_counter() + SECONDS
    while best == float("inf") or now < end:
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        best = min(best, now - start)
    return 2 * SIDE**3 / best / 1e9


def warn_of_precision(budget: BudgetSettings, accelerator: str) -> None:
    """Warn, on the first rank, where a run on the CPU asks for bf16 and the CPU is slower for it."""
    import torch

    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    if budget.precision != "bf16" or on_gpu or not ranks.is_first():
        return
    state = torch.get_rng_state()  # a run that is warned draws what it would have drawn
    slower = matrix_speed("cpu", "32") / matrix_speed("cpu", "bf16")
    torch.set_rng_state(state)
    if slower > 1:
        warnings.warn(
            f"budget.precision=bf16: this CPU multiplies {slower:.3g} times as slowly in bf16 as in fp32; "
            "stop and leave the key out, unless this is a trial of it",
            stacklevel=2,
        )
