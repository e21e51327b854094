"""Fine-tuning on the CPU at the texts' natural lengths: real tokens a second, beside BertForSequenceClassification.

tofro's run path beside transformers' Trainer with dynamic padding (DataCollatorWithPadding): rows in random order, the Trainer's
default and the same batches on both sides, and, as a second row, grouped by length. Hidden dropout 0.1, attention dropout 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import ours, peers
from benchmarks.apart import apart
from benchmarks.material import Options, hugging_face_tokenizer
from benchmarks.report import Row, speed_row
from benchmarks.timing import Window, alternate, padding_note, rates

DROPOUT, GOAL = 0.1, 1.8
ORDERS = {"sequential": "", "group_by_length": ", peer grouped by length"}  # of the peer's rows, and how the row says so


@dataclass(frozen=True)
class Case:
    """What is compared, and for how long."""

    size: str
    batch: int
    warm: int
    steps: int
    rounds: int

    def overrides(self, options: Options) -> list[str]:
        """Return the run's config."""
        return [
            *options.task_overrides,
            "method=full",
            f"method.dropout={DROPOUT}",
            f"encoder={options.size(self.size)}",
            f"budget.batch={self.batch}",
            "trainer.accelerator=cpu",
        ]


CASES = (Case("mini", 16, 10, 100, 5), Case("mini", 32, 10, 50, 5), Case("base", 16, 2, 10, 3), Case("base", 32, 2, 6, 3))


def run(options: Options) -> list[Row]:
    """Return two rows per size and batch: against random order and against grouping by length."""
    return [row for case in options.cases(CASES) for row in compare(options, case)]


def compare(options: Options, case: Case) -> list[Row]:
    """Measure one case."""
    with (
        apart(our_side, options, case) as ours_once,
        apart(their_side, options, case, "sequential") as random_once,
        apart(their_side, options, case, "group_by_length") as grouped_once,
    ):
        contestants = {"tofro": ours_once, "sequential": random_once, "group_by_length": grouped_once}
        windows = alternate(contestants, options.times(case.rounds))
    found = rates(windows)
    length = f"{options.times(case.steps)} steps after {options.times(case.warm)} to warm up"
    return [
        speed_row(
            "fine_tuning",
            f"{options.size(case.size)}, batch {case.batch}{label}",
            {"tofro": found["tofro"], "transformers": found[order]},
            None if label else GOAL,
            f"tokens/s, fp32; {len(found[order])} rounds of {length}; {padding_note(windows[order])}",
        )
        for order, label in ORDERS.items()
    ]


def our_side(options: Options, case: Case) -> Callable[[], Window]:
    """Set tofro up."""
    job = ours.fine_tuning(options.context(*case.overrides(options)))
    return lambda: ours.train(job, options.times(case.warm), options.times(case.steps))


def their_side(options: Options, case: Case, order: str) -> Callable[[], Window]:
    """Set transformers up, with the rows that tofro trains on."""
    warm, steps = options.times(case.warm), options.times(case.steps)
    context = options.context(*case.overrides(options))
    tokenizer, vocabulary = hugging_face_tokenizer(context.start.tokenizer), context.start.model.vocabulary
    rows = peers.rows_of(ours.fine_tuning(context).batches(warm + steps), tokenizer)
    kind, labels = "BertForSequenceClassification", len(context.task.labels)
    model = peers.bert(kind, context.settings("encoder"), vocabulary, DROPOUT, num_labels=labels)
    collate, further = peers.padding(tokenizer), {"use_cpu": True, "train_sampling_strategy": order}
    return lambda: peers.train(model, rows, collate, case.batch, warm, steps, **further)
