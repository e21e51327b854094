"""Pretraining a ModernBERT on the CPU: real tokens a second at length 128, masked words alone, beside ModernBertForMaskedLM.

As benchmarks/pretraining.py, with sdpa attention and no dropout, which is ModernBERT's own. Two rows a size: the peer as
it comes, and set to project masked positions alone, as tofro always does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.material import Options
from benchmarks.pretraining import Case, as_asked, compare
from benchmarks.report import Row
from tofro.encoders.settings import EncoderSettings

PLAIN = {"dropout": 0.0, "objective": "mlm"}
CASES = (Case("modernbert_mini", 1.5, 5, 40, 5, **PLAIN), Case("modernbert_base", 1.3, 1, 3, 3, **PLAIN))


def make(settings: EncoderSettings, vocabulary: int, dropout: float, sparse: bool) -> Any:
    """Return the peer's model."""
    assert dropout == 0
    return peers.modernbert(settings, vocabulary, sparse)


def run(options: Options) -> list[Row]:
    """Return two rows per size."""
    rows = []
    for case in options.cases(CASES):
        for sparse in (False, True):
            made = replace(as_asked(options, case), make=partial(make, sparse=sparse), goal=None if sparse else case.goal)
            label = options.size(case.size).removeprefix("modernbert_") + (", peer with sparse prediction" if sparse else "")
            rows.append(compare(options, made, "modernbert", label))
    return rows
