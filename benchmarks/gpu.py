"""Pretraining on a GPU at base in bf16: beside BertForPreTraining, eager and compiled, and the model FLOPs utilisation.

tofro compiles its layers throughout, as a user of a GPU would. Utilisation is the training's FLOPs a second (matrix products and
attention, forward and backward, on real tokens) as a share of the best bf16 product, measured in every round between the
training's. Skipped where there is no CUDA device.
"""

from __future__ import annotations

import torch

from benchmarks import ours
from benchmarks.arithmetic import best_product, flops_per_token
from benchmarks.material import Options
from benchmarks.pretraining import Case, compare
from benchmarks.report import Row, speed_row
from benchmarks.timing import alternate

COMMON = {"warm": 20, "steps": 100, "rounds": 5, "batch": 256, "precision": "bf16", "accelerator": "gpu", "compile": True}
AGAINST = {
    "peer eager": Case("base", 2.0, **COMMON),
    "peer compiled": Case("base", 1.3, **COMMON, peer=(("torch_compile", True),)),
}
UTILISATION = {  # of length 128 and 512, at one number of tokens a step
    128: Case("base", 45.0, **COMMON),
    512: Case("base", 45.0, **COMMON | {"batch": 64}, length=512),
}


def run(options: Options) -> list[Row]:
    """Return rows against the peer and of the utilisation."""
    labels = [f"{case}, bf16" for case in ("peer eager", "peer compiled", "utilisation at 128", "utilisation at 512")]
    if not torch.cuda.is_available():
        return [Row("gpu", label, None, note="no CUDA device") for label in labels]
    rows = [compare(options, case, "gpu", f"{options.size(case.size)}, {name}") for name, case in AGAINST.items()]
    return rows + [utilisation(options, case) for case in UTILISATION.values()]


def utilisation(options: Options, case: Case) -> Row:
    """Measure the utilisation of one case."""
    job = ours.pretraining(options.context(*case.overrides(options), f"trainer.compile={case.compile}"))
    # Counted on the CPU, where the counter sees attention, and without what fills compiled batches; the same FLOPs.
    per_token = flops_per_token(ours.pretraining(options.context(*case.overrides(options))), "32")
    warm, steps, rounds = options.times(case.warm), options.times(case.steps), options.times(case.rounds)
    rates = alternate(
        {
            "tofro": lambda: ours.train(job, warm, steps).rate * per_token / 1e12,
            "product": lambda: best_product("cuda", torch.bfloat16, 0.5) / 1e3,
        },
        rounds,
    )
    note = f"TFLOP/s of the step and of the best product; {rounds} rounds of {steps} steps of {case.batch} × {case.length}"
    return speed_row("gpu", f"{options.size(case.size)}, utilisation at {case.length}", rates, case.goal, note, percent=True)
