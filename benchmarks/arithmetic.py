"""Share of the machine's best matrix product that a pretraining step of tofro reaches on the CPU, at base.

The best product is the fastest of square products and of a linear layer's, in the step's precision and with its threads, timed in
every round between the training's. A step's FLOPs are those of its matrix products and attention (measures/cost.py); its time is
all of it: loader, dropout, norms, optimizer. bf16 is measured where a product of it is faster than fp32's.
"""

from __future__ import annotations

import time

import torch

from benchmarks import ours
from benchmarks.material import Options
from benchmarks.report import Row, speed_row
from benchmarks.timing import alternate, settled
from tofro.measures.cost import count_flops

SIZE, BATCH, LENGTH = "base", 16, 128
WARM, STEPS, ROUNDS = 1, 4, 3
GOALS = {"32": 75.0, "bf16": 55.0}
KINDS = {"32": torch.float32, "bf16": torch.bfloat16}
SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096), (2048, 768, 3072), (2048, 3072, 768))
SECONDS = 1.0  # for each shape, in each round
FAST = 1.2  # times fp32's speed from which bf16 is worth a row


def run(options: Options) -> list[Row]:
    """Return a row per precision."""
    quickly = 0.05 if options.quick else 0.3
    faster = best_product("cpu", torch.bfloat16, quickly) / best_product("cpu", torch.float32, quickly)
    rows = [measure(options, "32")]
    if faster > FAST:
        return [*rows, measure(options, "bf16")]
    return [*rows, Row("arithmetic", "bf16", None, note=f"bf16 products run at {faster:.2f}× the speed of fp32 here")]


def measure(options: Options, precision: str) -> Row:
    """Measure one precision."""
    steps, rounds = options.times(STEPS), options.times(ROUNDS)
    context = options.context(
        "method=pretrain",
        f"encoder={options.size(SIZE)}",
        f"budget.batch={BATCH}",
        f"budget.precision={precision}",
        f"objective.length={LENGTH}",
        "trainer.accelerator=cpu",
    )
    job = ours.pretraining(context)
    per_token = flops_per_token(job, precision)
    seconds = 0.05 if options.quick else SECONDS
    rates = alternate(
        {
            "tofro": lambda: ours.train(job, WARM, steps).rate * per_token / 1e9,
            "product": lambda: best_product("cpu", KINDS[precision], seconds),
        },
        rounds,
    )
    kind = "fp32" if precision == "32" else precision
    note = f"GFLOP/s of the step and of the best product; {rounds} rounds of {steps} steps of {BATCH} × {LENGTH}"
    return speed_row("arithmetic", f"{options.size(SIZE)}, {kind}", rates, GOALS[precision], note, percent=True)


def flops_per_token(job: ours.Job, precision: str) -> float:
    """Return the FLOPs of a real token in training, forward and backward."""
    batch = job.batches(1)[0]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = job.module.training_step(batch, 0)
        loss.backward()

    flops = count_flops(step)
    job.module.zero_grad(set_to_none=True)
    job.module.pop_row()
    return flops / batch.counts["tokens"]


def best_product(device: str, kind: torch.dtype, seconds: float) -> float:
    """Return GFLOP/s of the fastest product of :data:`SHAPES`, each repeated for ``seconds``; the best single call counts."""
    best = 0.0
    for rows, inner, columns in SHAPES:
        a = torch.randn(rows, inner, device=device, dtype=kind)
        b = torch.randn(columns, inner, device=device, dtype=kind).T
        out = torch.empty(rows, columns, device=device, dtype=kind)
        torch.mm(a, b, out=out)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            started = settled()
            torch.mm(a, b, out=out)
            best = max(best, 2 * rows * inner * columns / (settled() - started) / 1e9)
    return best
