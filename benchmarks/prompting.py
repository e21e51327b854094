"""Prompts on the CPU: cloze questions in packed batches beside one sequence at a time, and what packing itself costs.

One after the other is the loop that a reader of the formula writes: tokenise, fill the template, run the encoder, look the words
up. Packing is an ensemble of templates with label words of one token and of several, all of its work included, beside a bare pass
of encoder and head over the distinct sequences that it needs, built and packed before the clock starts. Random weights; the time
knows no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch

from benchmarks.apart import apart
from benchmarks.material import Options
from benchmarks.predicting import timed
from benchmarks.report import Row, number, speed_row
from benchmarks.timing import Window, alternate, rates, ratios, spread
from tofro.batches.sequences import distinct, packed_by_length
from tofro.encoders.inference import inference
from tofro.modules.prompting import BATCH, ClozeScorer
from tofro.runs.memory import keep_large_buffers
from tofro.text.task import Example
from tofro.tokens.settings import PromptSettings

FASTER, COSTLIER = 3.0, 1.2
LENGTH, WARM = 128, 16
TEMPLATES = ["{text_a} It was [MASK].", "The [MASK] one: {text_a}", "{text_a} All in all, this is [MASK]."]
WORDS = ["good", "bad", "great", "poor", "new", "old", "large", "small", "first", "last", "open", "closed", "whole", "part"]
SEVERAL = "incomprehensibility"  # a word of several tokens


@dataclass(frozen=True)
class Case:
    """What is compared, and for how long."""

    size: str
    texts: int
    rounds: int


CASES = (Case("mini", 1_024, 5), Case("base", 128, 3))


def run(options: Options) -> list[Row]:
    """Return two rows per size."""
    return [row for case in options.cases(CASES) for row in (against_loop(options, case), against_pass(options, case))]


def against_loop(options: Options, case: Case) -> Row:
    """Compare packed batches of one template with one sequence at a time."""
    with apart(batched, options, case, 0) as ours, apart(loop, options, case) as theirs:
        found = rates(alternate({"tofro": ours, "loop": theirs}, options.times(case.rounds)))
    note = f"texts/s, fp32, one template; {len(found['tofro'])} rounds of {count(options, case):,} texts"
    return speed_row("prompting", f"{options.size(case.size)}, one sequence at a time", found, FASTER, note)


def against_pass(options: Options, case: Case) -> Row:
    """Compare an ensemble with a bare pass over its distinct sequences: times its time."""
    with apart(batched, options, case, None) as ours, apart(bare, options, case) as theirs:
        found = rates(alternate({"tofro": ours, "pass": theirs}, options.times(case.rounds)))
    value, low, high = ratios(found["pass"], found["tofro"])
    medians = [number(spread(each)[0], "") for each in found.values()]
    note = f"time over the pass'; texts/s, fp32, {len(TEMPLATES)} templates; {len(found['tofro'])} rounds"
    name = f"{options.size(case.size)}, pass over distinct sequences"
    return Row("prompting", name, value, "×", low, high, COSTLIER, True, *medians, note, found)


def count(options: Options, case: Case) -> int:
    """Return how many texts are asked about."""
    return 2 * WARM if options.quick else case.texts


def material(options: Options, case: Case, template: int | None) -> tuple[ClozeScorer, list[Example]]:
    """Return a scorer of one template or of all, and the texts; label words are several for each label, of several tokens too."""
    context = options.context(*options.task_overrides, f"encoder={options.size(case.size)}", "trainer.accelerator=cpu")
    task, start = context.task, context.start
    words = {label: list(islice(cycle(WORDS), 2 * place, 2 * place + 2)) for place, label in enumerate(task.labels)}
    if template is None:
        words[task.labels[0]].append(SEVERAL)
    settings = PromptSettings("unused", TEMPLATES, template, words, "none")
    examples = list(islice((Example(row.text_a, None, "") for row in task.splits["train"]), count(options, case)))
    keep_large_buffers()
    return ClozeScorer(settings, start.model, start.tokenizer, task.labels, False, LENGTH), examples


def batched(options: Options, case: Case, template: int | None) -> Callable[[], Window]:
    """Set tofro up."""
    scorer, examples = material(options, case, template)
    scorer.score(examples[:WARM])
    return lambda: timed(lambda: scorer.score(examples), len(examples))


def loop(options: Options, case: Case) -> Callable[[], Window]:
    """Set the loop over sequences up."""
    scorer, examples = material(options, case, 0)
    model, tokenizer, (wording,) = scorer.model, scorer.tokenizer, scorer.wordings
    lengths = sorted({len(word.ids) for word in wording.words})
    ids = {k: torch.tensor(np.stack([word.ids for word in wording.words if len(word.ids) == k])) for k in lengths}

    def one(example: Example) -> list[torch.Tensor]:
        text, found = {"text_a": tokenizer.encode([example.text_a])[0].ids}, []
        for k in lengths:
            (cloze,) = wording.template.fill([text], k)
            ((_, batch),) = packed_by_length([(cloze.tokens,)], tokenizer, 1)
            logits = model.mlm_logits(model.encoder(batch), torch.from_numpy(cloze.masks + 1)).log_softmax(-1)
            found.append(logits[torch.arange(k), ids[k].long()].mean(-1))
        return found

    def work() -> None:
        with inference(model):
            for example in examples:
                one(example)

    with inference(model):
        for example in examples[:WARM]:
            one(example)
    return lambda: timed(work, len(examples))


def bare(options: Options, case: Case) -> Callable[[], Window]:
    """Set the pass over distinct sequences up."""
    scorer, examples = material(options, case, None)
    texts = [{"text_a": text.ids} for text in scorer.tokenizer.encode([example.text_a for example in examples])]
    clozes = [
        cloze
        for wording in scorer.wordings
        for k in sorted({len(word.ids) for word in wording.words})
        for cloze in wording.template.fill(texts, k)
    ]
    kept = [clozes[first] for first in distinct((cloze.tokens.tobytes(), cloze.masks.tobytes()) for cloze in clozes)[0]]
    batches = [
        (batch, torch.nonzero(batch.tokens == scorer.tokenizer.mask_id)[:, 0])
        for _, batch in packed_by_length([(cloze.tokens,) for cloze in kept], scorer.tokenizer, BATCH)
    ]

    def work() -> None:
        with inference(scorer.model):
            for batch, masked in batches:
                scorer.model.mlm_logits(scorer.model.encoder(batch), masked)

    work()
    return lambda: timed(work, len(examples))
