"""Pretraining on the CPU: real tokens a second at length 128, masked words and sentence pairs, beside BertForPreTraining.

tofro's run path (loader, module, fit) beside transformers' Trainer with its own collator; both see the same sequences in the same
order, hidden dropout 0.1, attention dropout 0, batches of 16. Training alone is timed, after warm-up steps.
"""

from __future__ import annotations

from benchmarks import ours, peers
from benchmarks.material import Options, hugging_face_tokenizer
from benchmarks.report import Row, speed_row
from benchmarks.timing import Window, alternate

BATCH, LENGTH, DROPOUT = 16, 128, 0.1
CASES = (("mini", 1.5, 5, 40, 5), ("base", 1.3, 1, 4, 3))  # size, goal, warm-up steps, timed steps, rounds


def run(options: Options) -> list[Row]:
    """Return a row per size."""
    return [compare(options, *case) for case in CASES]


def compare(options: Options, size: str, goal: float, warm: int, steps: int, rounds: int) -> Row:
    """Measure one size."""
    warm, steps, rounds = options.times(warm), options.times(steps), options.times(rounds)
    context = options.context(
        "method=pretrain",
        f"method.dropout={DROPOUT}",
        f"encoder={options.size(size)}",
        f"budget.batch={BATCH}",
        f"objective.length={LENGTH}",
    )
    job = ours.pretraining(context)
    tokenizer, vocabulary = hugging_face_tokenizer(context.start.tokenizer), context.start.model.vocabulary
    rows = peers.rows_of(job.batches(warm + steps), tokenizer)
    model = peers.bert("BertForPreTraining", context.settings("encoder"), vocabulary, DROPOUT)
    collate = peers.masking(tokenizer, context.config.objective.mask_rate)
    last = Window()

    def theirs() -> float:
        nonlocal last
        last = peers.train(model, rows, collate, BATCH, warm, steps)
        return last.rate

    rates = alternate({"tofro": lambda: ours.train(job, warm, steps).rate, "transformers": theirs}, rounds)
    note = (
        f"tokens/s, fp32; {rounds} rounds of {steps} steps of {BATCH} sequences after {warm} to warm up; vocabulary "
        f"{vocabulary:,}; dropout {DROPOUT}, of attention 0; padding {last.padding:.1%} on the peer's side, none on ours"
    )
    return speed_row("pretraining", options.size(size), rates, goal, note)
