"""The acceptance rule: silent below eight pairs, underpowered where the encoder never learnt, else clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tofro.reports.collect import collect
from tofro.reports.variants import name_variants
from tofro.reports.verdict import Verdict, judge

Make = Callable[..., Path]
GAINS = {"two_way": 0.04, "ema": 0.02, "no_task": 0.0, "shuffled_labels": -0.01}
ARMS: dict[str, dict[str, Any]] = {
    "two_way": {"method": "two_way"},
    "ema": {"method": "ema"},
    "no_task": {"method": "two_way", "variant": "no_task"},
    "shuffled_labels": {"method": "two_way", "variant": "shuffled_labels"},
}


def adapt(
    make_run: Make, arm: dict[str, Any], seed: int, gain: float, mlm: float = 0.01, other: float = 0.01, **more: Any
) -> None:
    """One run of an arm, its probe of the task ``gain`` above its start's."""
    wobble = 0.001 * (seed % 3)
    metrics = {
        "test/accuracy_ft": 0.8,
        "test/probe_pydoc_kind_start": 0.7,
        "test/probe_pydoc_kind_pre": 0.7 + gain + wobble,
        "test/probe_pydoc_match_start": 0.5,
        "test/probe_pydoc_match_pre": 0.5 + other + wobble,
        "validation/mlm_loss_start": 4.0,
        "validation/mlm_loss_pre": 4.0 * (1 + mlm) + wobble,
    }
    arm = dict(arm)
    make_run(arm.pop("method"), seed, metrics=metrics, **arm, **more)


def pretrain(make_run: Make, learnt: float = 2.0, **more: Any) -> None:
    """A pretraining run so many nats below unigram."""
    metrics = {"validation/mlm_loss_pre": 4.0, "validation/unigram_nats_pre": 4 + learnt}
    make_run("pretrain", 0, task=None, corpus="pydoc", metrics=metrics, **more)


@pytest.fixture
def judged(tmp_path: Path) -> Callable[[], list[Verdict]]:
    """Judge the runs made so far, named as a report names them."""
    return lambda: judge(name_variants(collect([tmp_path / "runs"]).runs))


@pytest.fixture
def verdict(make_run: Make, judged: Callable[[], list[Verdict]]) -> Callable[..., Verdict]:
    """Judge a study of two-way and its controls; ``gains`` are the task probe's by arm, ``learnt`` nats below unigram."""

    def build(seeds: int, learnt: float = 2.0, mlm: float = 0.01, other: float = 0.01, **gains: float) -> Verdict:
        pretrain(make_run, learnt)
        for name, gain in (GAINS | gains).items():
            for seed in range(seeds):
                adapt(make_run, ARMS[name], seed, gain, mlm, other)
        (found,) = judged()
        return found

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


@pytest.mark.parametrize(("random", "word"), [(0.65, "holds"), (0.70, "underpowered"), (0.75, "underpowered")])
def test_probes_no_better_than_a_random_encoders_are_underpowered(
    verdict: Callable[..., Verdict], make_run: Make, random: float, word: str
) -> None:
    for seed, noise in ((0, -0.01), (1, 0.01)):
        make_run("random_encoder", seed, score=None, metrics={"test/probe_pydoc_kind_random": random + noise})
    found = verdict(8)
    assert found.word == word
    assert ("random encoder" in found.sentence) == (word == "underpowered")


def test_random_encoders_are_compared_over_all_tasks_that_both_know(verdict: Callable[..., Verdict], make_run: Make) -> None:
    make_run("random_encoder", 0, metrics={"test/probe_pydoc_kind_random": 0.72})  # two points above
    make_run("random_encoder", 0, task="pydoc_match", metrics={"test/probe_pydoc_match_random": 0.45})  # five points below
    make_run("random_encoder", 0, task="other", metrics={"test/probe_other_random": 0.9})
    assert verdict(8).word == "holds"


def test_a_random_encoder_whose_probe_saw_more_rows_does_not_count(verdict: Callable[..., Verdict], make_run: Make) -> None:
    make_run("random_encoder", 0, metrics={"test/probe_pydoc_kind_random": 0.99}, config={"method.probe_rows": 4000})
    assert verdict(8).word == "holds"


def test_a_random_encoder_of_another_architecture_does_not_count(verdict: Callable[..., Verdict], make_run: Make) -> None:
    make_run("random_encoder", 0, metrics={"test/probe_pydoc_kind_random": 0.99}, lineage={"init_from": "ffffffff"})
    make_run("random_encoder", 0, metrics={"test/probe_pydoc_kind_random": 0.60}, id="12345678")
    assert verdict(8).word == "holds"


@pytest.mark.parametrize("name", ["semantic", "my no_task", "no_task_at_all", "em_ema"])
def test_a_name_that_contains_a_controls_is_none(make_run: Make, judged: Callable[[], list[Verdict]], name: str) -> None:
    """`ema` is in `semantic`: such an arm is neither the rival EMA nor hidden as a control."""
    for seed in range(8):
        adapt(make_run, {"method": "two_way", "variant": name}, seed, 0.04)
        adapt(make_run, {"method": "em_ema_x"}, seed, 0.0)
    (found,) = judged()
    assert found.about == f"two_way, {name} on pydoc_kind"
    assert [clause.reading for clause in found.clauses[:3]] == ["arm not run"] * 3


def test_controls_bring_keys_along_and_an_unnamed_one_or_two_at_once_are_no_rival(
    make_run: Make, judged: Callable[[], list[Verdict]]
) -> None:
    for seed in range(8):
        adapt(make_run, {"method": "two_way"}, seed, 0.04)
        brought = {"control.task_loss": False, "budget.best": False, "budget.patience": None}
        adapt(make_run, {"method": "two_way", "variant": "no_task", "config": brought}, seed, 0.0)
        adapt(make_run, {"method": "two_way", "config": {"control.random_ft": True}}, seed, 0.0, id=f"{seed:08d}")
        adapt(make_run, {"method": "ema", "variant": "shuffled_labels"}, seed, 0.03)
        adapt(make_run, {"method": "two_way", "variant": "shuffled_labels, shuffled_pairing"}, seed, 0.03)
        adapt(make_run, {"method": "two_way", "variant": "random_ft"}, seed, 0.02)
    (found,) = judged()
    assert found.about == "two_way on pydoc_kind"
    readings = [clause.reading for clause in found.clauses[:3]]
    assert readings[0] == readings[2] == "arm not run"
    assert readings[1].startswith("+4.0")
    assert "differs" not in readings[1]


def test_a_control_is_matched_by_its_settings_and_the_hardest_of_others_is_beaten(
    make_run: Make, judged: Callable[[], list[Verdict]]
) -> None:
    for seed in range(8):
        for weight, gain, robbed in ((0.1, 0.04, 0.01), (0.5, 0.06, 0.02)):
            config = {"alignment.weight": weight}
            adapt(make_run, {"method": "two_way", "config": config}, seed, gain, id=f"a{weight * 10:07.0f}")
            adapt(
                make_run, {"method": "two_way", "variant": "no_task", "config": config}, seed, robbed, id=f"b{weight * 10:07.0f}"
            )
        for decay, gain in ((0.9, 0.03), (0.99, 0.035), (0.999, 0.0)):
            adapt(make_run, {"method": "ema", "config": {"method.decay": decay}}, seed, gain, id=f"c{decay * 1000:07.0f}")
    small, large = judged()
    assert small.about == "two_way, λ=0.1 on pydoc_kind"
    assert [clause.reading[:4] for clause in small.clauses[:2]] == ["+0.5", "+3.0"]
    assert [clause.reading[:4] for clause in large.clauses[:2]] == ["+2.5", "+4.0"]


def test_a_control_with_other_settings_is_said_to_differ(make_run: Make, judged: Callable[[], list[Verdict]]) -> None:
    for seed in range(8):
        adapt(make_run, {"method": "two_way", "config": {"alignment.weight": 0.5}}, seed, 0.04)
        adapt(make_run, ARMS["no_task"], seed, 0.0)
    (found,) = judged()
    assert "but alignment.weight differs" in found.clauses[1].reading


def test_pairs_of_several_checkpoints_are_clustered(make_run: Make, judged: Callable[[], list[Verdict]]) -> None:
    """Two checkpoints that disagree: sixteen pairs would look certain, two pretraining seeds are not."""
    for start, gain in (("aaaaaaaa", 0.09), ("bbbbbbbb", 0.03)):
        pretrain(make_run, id=start)
        for seed in range(8):
            for name, robbed in GAINS.items():
                change = gain if name == "two_way" else robbed
                adapt(
                    make_run,
                    ARMS[name],
                    seed,
                    change,
                    lineage={"init_from": start},
                    id=f"{start[:4]}{robbed * 100 + 1:02.0f}{seed:02d}",
                )
    (found,) = judged()
    assert found.word == "does not hold"
    assert "Over 2 pretraining seeds." in found.sentence
    comparison = found.clauses[0].comparison
    assert comparison is not None
    assert comparison.pairs == 16
    assert comparison.clusters == 2
    assert comparison.interval is not None
    assert not comparison.interval.excludes(0)
    assert "over 2 pretraining seeds" in comparison.interval.method


def test_holm_is_over_the_clauses_and_the_power_note_is_printed(verdict: Callable[..., Verdict]) -> None:
    found = verdict(8, ema=0.039)  # the wobble is the same in all arms: every difference is +0.1 points
    assert all("p 0.012 (Holm)" in clause.reading for clause in found.clauses[:3])  # 3 / 2^8
    assert not any("power" in note for note in found.notes)  # no spread, no note


def test_the_power_note_names_the_pairs_that_a_point_would_take(make_run: Make, judged: Callable[[], list[Verdict]]) -> None:
    noise = 0.015 * np.array([-1, 1, -1, 1, -1, 1, 1, -1])
    for seed in range(8):
        adapt(make_run, ARMS["two_way"], seed, 0.04 + noise[seed])
        adapt(make_run, ARMS["ema"], seed, 0.02)
    (found,) = judged()
    sd = noise.std(ddof=1)
    power = [stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, 0.01 * np.sqrt(n) / sd) for n in range(2, 40)]
    assert f"sd {100 * sd:.1f}" in found.notes[-1]
    assert f"about {2 + next(n for n, value in enumerate(power) if value >= 0.8)} pairs" in found.notes[-1]


@pytest.mark.parametrize(("score", "said"), [(0.8, "+10.0, about what there was"), (0.65, "−5.0, so the task had nothing")])
def test_a_verdict_says_how_much_there_was_to_flow_back(
    make_run: Make, judged: Callable[[], list[Verdict]], score: float, said: str
) -> None:
    for seed in range(8):
        metrics = {"test/accuracy_ft": score, "test/probe_pydoc_kind_start": 0.7, "test/probe_pydoc_kind_pre": 0.71}
        make_run("two_way", seed, metrics=metrics)
    assert said in judged()[0].notes[0]


@pytest.mark.parametrize(
    ("cost", "config", "said"),
    [
        ({"rows": 2000}, {"method.probe_rows": 600}, "from 600 of the 2,000 rows"),
        ({"rows": 60_000}, {}, "from 2,000 of the 60,000 rows"),  # the default
        ({}, {"task.train_rows": 2000, "method.probe_rows": 600}, "from 600 of the 2,000 rows"),  # as older results have it
        ({"rows": 400}, {"task.train_rows": 2000, "method.probe_rows": 600}, ""),
        ({"rows": 2000}, {}, ""),
        ({}, {"method.probe_rows": 600}, ""),
    ],
)
def test_a_verdict_says_where_the_starts_probe_saw_fewer_labels_than_ft(
    make_run: Make, judged: Callable[[], list[Verdict]], cost: dict[str, float], config: dict[str, Any], said: str
) -> None:
    for seed in range(8):
        metrics = {"test/accuracy_ft": 0.8, "test/probe_pydoc_kind_start": 0.7, "test/probe_pydoc_kind_pre": 0.71}
        make_run("two_way", seed, metrics=metrics, cost=cost, config=config)
    notes = [note for note in judged()[0].notes if "learns from" in note]
    assert [said in note for note in notes] == [True] * bool(said)


def test_later_stages_of_a_stream_are_no_arms(make_run: Make, tmp_path: Path) -> None:
    for seed in range(8):
        adapt(make_run, ARMS["two_way"], seed, 0.04)
    runs = collect([tmp_path / "runs"]).runs
    assert len(judge(runs)) == 1
    assert judge([replace(run, streamed=True) for run in runs]) == []
