"""Does flow-back hold? The acceptance rule, clause by clause.

In: finished runs. Out: one :class:`Verdict` for each task and two-way arm. Flow-back holds only if the task probe of ``pre``
gains more than under EMA feedback, without a task loss and with shuffled labels (paired by seed), if the held-out MLM loss is
not more than 2% worse, and if the mean change over the other tasks is not below 0, the last two at their interval's end. Below
eight pairs nothing is judged; an encoder that never learnt makes a study underpowered, not negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tofro.reports import formats
from tofro.reports.arms import Arm, arms_of, differences, leaves_pre, measures_of, shifts, tasks_of
from tofro.reports.collect import RunRecord
from tofro.reports.encoder_tables import unigram_gain
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.statistics import SMALLEST_PAIRS, Comparison, compare, holm

LEARNT_NATS = 1.0  # an encoder less than this below unigram has not learnt enough to have anything flow
WORST_MLM = 0.02  # the held-out loss may rise by this share
CONTROLS = {"ema": "EMA feedback", "no_task": "no task loss", "shuffled_labels": "shuffled labels"}
LEVEL = 0.05


@dataclass(frozen=True)
class Clause:
    """One condition: what was compared, and whether it ``holds``; None is not judged, and ``reading`` says why."""

    claim: str
    reading: str
    holds: bool | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Verdict:
    """What the clauses add up to, in one ``word`` and a sentence."""

    about: str
    word: str  # holds | does not hold | underpowered | no verdict
    sentence: str
    clauses: tuple[Clause, ...] = ()


def judge(runs: Sequence[RunRecord]) -> list[Verdict]:
    """Return a verdict for every two-way arm whose ``pre`` moved, on every task."""
    learnt = [gain for run in runs if run.method == "pretrain" and (gain := unigram_gain(run)) is not None]
    verdicts = []
    for task in tasks_of(runs):
        arms = arms_of(runs, task)
        moved = [arm for arm in arms if arm.method == "two_way" and _control(arm) is None and not leaves_pre(arm)]
        verdicts += [_judge_arm(arm, arms, min(learnt, default=None)) for arm in moved]
    return verdicts


def _control(arm: Arm) -> str | None:
    """Which control an arm is, by its method or its variant."""
    name = f"{arm.method} {arm.variant}".lower().replace(" ", "_").replace("-", "_")
    return next((control for control in CONTROLS if control in name), None)


def _judge_arm(arm: Arm, arms: Sequence[Arm], learnt: float | None) -> Verdict:
    clauses = tuple(_holm_adjusted([*_control_clauses(arm, arms), _retention(arm), _generality(arm)]))
    about = f"{arm.label} on {arm.task}"
    pairs = min((clause.comparison.pairs for clause in clauses if clause.comparison is not None), default=0)
    weak = learnt is not None and learnt < LEARNT_NATS
    remark = f"The encoder is {formats.nats(learnt)} nats below unigram, less than {LEARNT_NATS:.0f}: underpowered."
    if pairs < SMALLEST_PAIRS:
        few = f"{pairs} pairs < {SMALLEST_PAIRS}: points and their mean, no more."
        return Verdict(about, "no verdict", f"{few} {remark}" if weak else few, clauses)
    if weak:
        return Verdict(about, "underpowered", remark, clauses)
    failed = [clause.claim for clause in clauses if clause.holds is False]
    if failed:
        return Verdict(about, "does not hold", f"Failed: {'; '.join(failed)}.", clauses)
    open_ = [clause.claim for clause in clauses if clause.holds is None]
    if open_:
        return Verdict(about, "no verdict", f"Not judged: {'; '.join(open_)}.", clauses)
    starts = {str(run.lineage.get("init_from")) for run in arm.runs}
    return Verdict(about, "holds", "Every clause holds" + ("." if len(starts) > 1 else ", for this checkpoint only."), clauses)


def _control_clauses(arm: Arm, arms: Sequence[Arm]) -> list[Clause]:
    clauses = []
    probe = next((name for name in measures_of([arm]) if parse_metric(name + "_pre").what == f"probe_{arm.task}"), None)
    for control, words in CONTROLS.items():
        claim = f"task probe of pre beats {words}"
        other = next((one for one in arms if _control(one) == control), None)
        found = differences(arm, other, f"{probe}_pre") if other is not None and probe is not None else []
        if not found:
            clauses.append(Clause(claim, "arm not run" if other is None else "no pairs"))
            continue
        comparison = compare([value for _, value in found])
        clauses.append(Clause(claim, _reading(comparison, parse_metric(f"{probe}_pre")), None, comparison))
    return clauses


def _holm_adjusted(clauses: list[Clause]) -> list[Clause]:
    """Judge the clauses that rest on a test, with Holm's adjustment over them."""
    tested = [clause for clause in clauses if clause.holds is None and clause.comparison and clause.comparison.test]
    p_values = iter(holm([clause.comparison.test.p_value for clause in tested if clause.comparison and clause.comparison.test]))
    judged = []
    for clause in clauses:
        if clause in tested:
            p = next(p_values)
            clause = replace(clause, holds=p < LEVEL, reading=f"{clause.reading}, p {formats.p_value(p)} (Holm)")
        judged.append(clause)
    return judged


def _retention(arm: Arm) -> Clause:
    claim = f"held-out MLM loss of pre at most {WORST_MLM:.0%} worse"
    found = next((moved for name in measures_of([arm]) if name.endswith("/mlm_loss") and (moved := shifts(arm, name))), [])
    if not found:
        return Clause(claim, "not measured")
    comparison = compare([after / before - 1 for _, before, after in found])
    holds = None if comparison.interval is None else comparison.interval.high <= WORST_MLM
    text = f"{100 * comparison.mean:+.1f}%".replace("-", "−")
    if comparison.interval is not None:
        text += f" ({100 * comparison.interval.low:+.1f} to {100 * comparison.interval.high:+.1f})".replace("-", "−")
    return Clause(claim, f"{text}, n = {comparison.pairs}", holds, comparison)


def _generality(arm: Arm) -> Clause:
    claim = "mean change over the other tasks' probes not below 0"
    changes: dict[str, list[float]] = {}
    others = [name for name in measures_of([arm]) if "/probe_" in name and not name.endswith(f"/probe_{arm.task}")]
    for name in others:
        for run, before, after in shifts(arm, name):
            changes.setdefault(run.name, []).append(after - before)
    if not changes:
        return Clause(claim, "not measured")
    comparison = compare([math.fsum(found) / len(found) for found in changes.values()])
    holds = None if comparison.interval is None else comparison.interval.low >= 0
    return Clause(claim, f"{_reading(comparison, Metric('test', 'probe_', 'pre'))}, {len(others)} tasks", holds, comparison)


def _reading(comparison: Comparison, metric: Metric) -> str:
    text = formats.measured(comparison.mean, metric, True)
    if comparison.interval is not None:
        text += f" ({formats.span(comparison.interval.low, comparison.interval.high, metric, True)})"
    return f"{text}, n = {comparison.pairs}"
