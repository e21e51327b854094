"""Predicting on the CPU: texts a second, beside transformers' pipeline("text-classification") on the same folder.

Both open one model folder with random weights and answer the same short texts, tokenising included. tofro sorts them by length
and packs them, as ``tofro predict`` does; the pipeline pads each batch to its longest text: with batch_size=32, and as it comes,
one text at a time.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apart import apart
from benchmarks.material import Options
from benchmarks.report import Row, speed_row
from benchmarks.timing import Window, alternate, rates
from tofro.encoders.folder import save_model
from tofro.runs.context import Context
from tofro.runs.loaded import load
from tofro.runs.memory import keep_large_buffers

GOAL = 1.5
WARM = 64  # texts answered before the clock starts
SINGLE_SHARE = 10  # one by one the pipeline is so slow that it answers a tenth of the texts; rates are compared
BATCHES = {32: "batch_size=32", 1: "batch_size=1, its default"}


@dataclass(frozen=True)
class Case:
    """What is compared, and for how long."""

    size: str
    texts: int
    rounds: int

    def overrides(self, options: Options) -> list[str]:
        """Return the run's config."""
        return [*options.task_overrides, "method=full", f"encoder={options.size(self.size)}", "trainer.accelerator=cpu"]


CASES = (Case("mini", 10_000, 3), Case("base", 500, 3))


def run(options: Options) -> list[Row]:
    """Return two rows per size: against the pipeline in batches and as it comes."""
    return [row for case in options.cases(CASES) for row in compare(options, case)]


def compare(options: Options, case: Case) -> list[Row]:
    """Measure one case."""
    with (
        apart(our_side, options, case) as ours,
        apart(their_side, options, case, 32) as batched,
        apart(their_side, options, case, 1) as single,
    ):
        found = rates(alternate({"tofro": ours, "32": batched, "1": single}, options.times(case.rounds)))
    note = f"texts/s, fp32, max_length 128; {len(found['tofro'])} rounds of {count(options, case):,} texts"
    return [
        speed_row(
            "predicting",
            f"{options.size(case.size)}, {label}",
            {"tofro": found["tofro"], "transformers": found[str(batch)]},
            GOAL,
            note,
        )
        for batch, label in BATCHES.items()
    ]


def count(options: Options, case: Case) -> int:
    """Return how many texts are answered."""
    return 2 * WARM if options.quick else case.texts


def texts_of(options: Options, case: Case, context: Context) -> list[str]:
    """Return texts of the task, from the first again where it has fewer."""
    rows = itertools.chain.from_iterable(context.task.splits.values())
    return list(itertools.islice(itertools.cycle(example.text_a for example in rows), count(options, case)))


def write_model(context: Context, folder: str) -> None:
    """Write the model that both sides open."""
    save_model(Path(folder), context.model_for_task(), context.start.tokenizer, context.task.labels)


def our_side(options: Options, case: Case) -> Callable[[], Window]:
    """Set tofro up."""
    context = options.context(*case.overrides(options))
    texts = texts_of(options, case, context)
    keep_large_buffers()
    with tempfile.TemporaryDirectory() as folder:
        write_model(context, folder)
        loaded = load(folder, max_length=128, device="cpu")
    loaded.predict(texts[:WARM])
    return lambda: timed(lambda: loaded.predict(texts), len(texts))


def their_side(options: Options, case: Case, batch: int) -> Callable[[], Window]:
    """Set transformers up."""
    from transformers import pipeline

    context = options.context(*case.overrides(options))
    texts = texts_of(options, case, context)[:: 1 if batch > 1 else SINGLE_SHARE]
    with tempfile.TemporaryDirectory() as folder:
        write_model(context, folder)
        answer = pipeline("text-classification", model=folder, device="cpu")
    further = {"batch_size": batch, "truncation": True, "max_length": 128}
    answer(texts[:WARM], **further)
    return lambda: timed(lambda: answer(texts, **further), len(texts))


def timed(work: Callable[[], object], texts: int) -> Window:
    """Return the time of some work as a window that counts texts in the place of tokens."""
    started = time.perf_counter()
    work()
    return Window(seconds=time.perf_counter() - started, tokens=texts, slots=texts)
