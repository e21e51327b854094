"""Fine-tuning on the CPU at the texts' natural lengths: real tokens a second, beside BertForSequenceClassification.

tofro's run path beside transformers' Trainer with dynamic padding (DataCollatorWithPadding): rows in random order, the Trainer's
default and the same batches on both sides, and, as a second row, grouped by length. Hidden dropout 0.1, attention dropout 0.
"""

from __future__ import annotations

from typing import Any

from benchmarks import ours, peers
from benchmarks.material import Options, hugging_face_tokenizer
from benchmarks.report import Row, speed_row
from benchmarks.timing import alternate

DROPOUT, GOAL = 0.1, 1.8
CASES = (  # size, batch, warm-up steps, timed steps, rounds
    ("mini", 16, 10, 100, 5),
    ("mini", 32, 10, 50, 5),
    ("base", 16, 2, 10, 3),
    ("base", 32, 2, 6, 3),
)


def run(options: Options) -> list[Row]:
    """Return two rows per size and batch: against random order and against grouping by length."""
    return [row for case in CASES for row in compare(options, *case)]


def compare(options: Options, size: str, batch: int, warm: int, steps: int, rounds: int) -> list[Row]:
    """Measure one size and batch."""
    warm, steps, rounds = options.times(warm), options.times(steps), options.times(rounds)
    overrides = (
        "method=full",
        f"method.dropout={DROPOUT}",
        f"encoder={options.size(size)}",
        f"budget.batch={batch}",
        "trainer.accelerator=cpu",
    )
    context = options.context(*options.task_overrides, *overrides)
    job = ours.fine_tuning(context)
    tokenizer, vocabulary = hugging_face_tokenizer(context.start.tokenizer), context.start.model.vocabulary
    rows = peers.rows_of(job.batches(warm + steps), tokenizer)
    labels = len(context.task.labels)
    encoder = context.settings("encoder")
    model = peers.bert("BertForSequenceClassification", encoder, vocabulary, DROPOUT, num_labels=labels)
    padded: dict[str, float] = {}

    def theirs(order: str) -> float:
        window = peers.train(
            model, rows, peers.padding(tokenizer), batch, warm, steps, use_cpu=True, train_sampling_strategy=order
        )
        padded[order] = window.padding
        return window.rate

    contestants: dict[str, Any] = {"tofro": lambda: ours.train(job, warm, steps).rate}
    contestants |= {order: lambda order=order: theirs(order) for order in ("sequential", "group_by_length")}
    rates = alternate(contestants, rounds)
    return [
        speed_row(
            "fine_tuning",
            f"{options.size(size)}, batch {batch}{label}",
            {"tofro": rates["tofro"], "transformers": rates[order]},
            goal,
            f"tokens/s, fp32; {rounds} rounds of {steps} steps after {warm} to warm up; vocabulary {vocabulary:,}; padding "
            f"{padded[order]:.1%} on the peer's side, none on ours",
        )
        for order, label, goal in (("sequential", "", GOAL), ("group_by_length", ", peer grouped by length", None))
    ]
