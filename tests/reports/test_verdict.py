"""The acceptance rule: silent below eight pairs, underpowered where the encoder never learnt, else clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tofro.reports.collect import collect
from tofro.reports.verdict import Verdict, judge

Make = Callable[..., Path]
GAINS = {"two_way": 0.04, "ema": 0.02, "no_task": 0.0, "shuffled_labels": -0.01}


@pytest.fixture
def verdict(make_run: Make, tmp_path: Path) -> Callable[..., Verdict]:
    """Judge a study of two-way and its controls; ``gains`` are the task probe's by arm, ``learnt`` nats below unigram."""

    def build(seeds: int, learnt: float = 2.0, mlm: float = 0.01, other: float = 0.01, **gains: float) -> Verdict:
        make_run(
            "pretrain",
            0,
            task=None,
            corpus="pydoc",
            metrics={"validation/mlm_loss_pre": 4.0, "validation/unigram_nats_pre": 4 + learnt},
        )
        for method, gain in (GAINS | gains).items():
            for seed in range(seeds):
                wobble = 0.001 * (seed % 3)
                make_run(
                    method,
                    seed,
                    metrics={
                        "test/accuracy_ft": 0.8,
                        "test/probe_pydoc_kind_start": 0.7,
                        "test/probe_pydoc_kind_pre": 0.7 + gain + wobble,
                        "test/probe_pydoc_match_start": 0.5,
                        "test/probe_pydoc_match_pre": 0.5 + other + wobble,
                        "validation/mlm_loss_start": 4.0,
                        "validation/mlm_loss_pre": 4.0 * (1 + mlm) + wobble,
                    },
                )
        found = judge(collect([tmp_path / "runs"]).runs)
        assert len(found) == 1
        return found[0]

    return build


def test_below_eight_pairs_nothing_is_judged(verdict: Callable[..., Verdict]) -> None:
    found = verdict(7)
    assert found.word == "no verdict"
    assert "7 pairs < 8" in found.sentence
    assert all(clause.holds is None for clause in found.clauses)
    assert len(found.clauses) == 5


def test_all_clauses_hold(verdict: Callable[..., Verdict]) -> None:
    found = verdict(8)
    assert found.word == "holds"
    assert "this checkpoint only" in found.sentence
    assert [clause.holds for clause in found.clauses] == [True] * 5


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"ema": 0.05}, "EMA"),
        ({"mlm": 0.03}, "MLM"),
        ({"other": -0.02}, "other tasks"),
        ({"shuffled_labels": 0.04}, "shuffled"),
    ],
)
def test_the_clause_that_failed_is_named(verdict: Callable[..., Verdict], change: dict[str, float], failed: str) -> None:
    found = verdict(9, **change)
    assert found.word == "does not hold"
    assert failed in found.sentence
    assert sum(clause.holds is False for clause in found.clauses) == 1


def test_an_encoder_that_never_learnt_is_underpowered(verdict: Callable[..., Verdict]) -> None:
    assert verdict(8, learnt=0.9).word == "underpowered"


def test_a_control_that_was_not_run_leaves_the_verdict_open(make_run: Make, tmp_path: Path) -> None:
    for seed in range(8):
        make_run("two_way", seed, metrics={"validation/mlm_loss_start": 4.0, "validation/mlm_loss_pre": 4.01})
    (found,) = judge(collect([tmp_path / "runs"]).runs)
    assert found.word == "no verdict"
    assert "EMA" in found.sentence
