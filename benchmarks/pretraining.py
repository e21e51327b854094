"""Pretraining on the CPU: real tokens a second at length 128, masked words and sentence pairs, beside BertForPreTraining.

tofro's run path (loader, module, fit) beside transformers' Trainer with its own collator; both see the same sequences in the same
order, hidden dropout 0.1, attention dropout 0. Training alone is timed, after warm-up steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import ours, peers
from benchmarks.apart import apart
from benchmarks.material import Options, hugging_face_tokenizer
from benchmarks.report import Row, speed_row
from benchmarks.timing import Window, alternate, padding_note, rates
from tofro.encoders.settings import EncoderSettings

Make = Callable[[EncoderSettings, int, float], Any]  # (settings, vocabulary, dropout) -> the peer's model


def bert(settings: EncoderSettings, vocabulary: int, dropout: float) -> Any:
    """Return transformers' BERT with both of its pretraining heads."""
    return peers.bert("BertForPreTraining", settings, vocabulary, dropout)


@dataclass(frozen=True)
class Case:
    """What is compared, for how long, and what the goal is. ``compile`` is tofro's; ``peer`` holds further TrainingArguments."""

    size: str
    goal: float | None
    warm: int
    steps: int
    rounds: int
    batch: int = 16
    length: int = 128
    precision: str = "32"
    accelerator: str = "cpu"
    dropout: float = 0.1
    objective: str = "mlm_swap"
    make: Make = bert
    compile: bool = False
    peer: tuple[tuple[str, Any], ...] = ()

    def overrides(self, options: Options) -> list[str]:
        """Return the run's config."""
        return [
            "method=pretrain",
            f"method.dropout={self.dropout}",
            f"encoder={options.size(self.size)}",
            f"budget.batch={self.batch}",
            f"budget.precision={self.precision}",
            f"objective={self.objective}",
            f"objective.length={self.length}",
            f"trainer.accelerator={self.accelerator}",
        ]


CASES = (Case("mini", 1.5, 5, 40, 5), Case("base", 1.3, 1, 4, 3))


def run(options: Options) -> list[Row]:
    """Return a row per size."""
    return [compare(options, as_asked(options, case), "pretraining", options.size(case.size)) for case in options.cases(CASES)]


def as_asked(options: Options, case: Case) -> Case:
    """Return ``case`` in the precision asked for, and compiled on both sides where that was asked for."""
    further = (("torch_compile", True),) if options.compile else ()
    return replace(case, precision=options.precision, compile=options.compile, peer=(*case.peer, *further))


def compare(options: Options, case: Case, benchmark: str, label: str) -> Row:
    """Measure one case."""
    with apart(our_side, options, case) as ours_once, apart(their_side, options, case) as theirs_once:
        windows = alternate({"tofro": ours_once, "transformers": theirs_once}, options.times(case.rounds))
    precision = "fp32" if case.precision == "32" else case.precision
    rounds, warm, steps = (options.times(number) for number in (case.rounds, case.warm, case.steps))
    note = (
        f"tokens/s, {precision}{', compiled' * case.compile}; {rounds} rounds of {steps} steps of {case.batch} × {case.length} "
        f"after {warm} to warm up; dropout {case.dropout}, in attention 0; {padding_note(windows['transformers'])}"
    )
    return speed_row(benchmark, label, rates(windows), case.goal, note)


def our_side(options: Options, case: Case) -> Callable[[], Window]:
    """Set tofro up."""
    job = ours.pretraining(options.context(*case.overrides(options), f"trainer.compile={case.compile}"))
    return lambda: ours.train(job, options.times(case.warm), options.times(case.steps))


def their_side(options: Options, case: Case) -> Callable[[], Window]:
    """Set transformers up, with the sequences that tofro trains on."""
    warm, steps = options.times(case.warm), options.times(case.steps)
    context = options.context(*case.overrides(options))
    tokenizer, vocabulary = hugging_face_tokenizer(context.start.tokenizer), context.start.model.vocabulary
    rows = peers.rows_of(ours.pretraining(context).batches(warm + steps), tokenizer)
    model = case.make(context.settings("encoder"), vocabulary, case.dropout)
    collate = peers.masking(tokenizer, context.config.objective.mask_rate)
    further = dict(case.peer) | {"use_cpu": case.accelerator == "cpu", "bf16": case.precision == "bf16"}
    return lambda: peers.train(model, rows, collate, case.batch, warm, steps, **further)
