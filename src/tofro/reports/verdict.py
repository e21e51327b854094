"""Does flow-back hold? The acceptance rule, clause by clause.

In: finished runs. Out: one :class:`Verdict` for each task and two-way arm. Flow-back holds only if the task probe of ``pre``
gains more than under EMA feedback, without a task loss and with shuffled labels (paired by seed), if the held-out MLM loss is
not more than 2% worse, and if the mean change over the other tasks is not below 0, the last two at their interval's end. Below
eight pairs nothing is judged; an encoder that never learnt makes a study underpowered, not negative: one less than 1 nat below
unigram, or one whose probes are no better than a random encoder's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tofro.reports import formats
from tofro.reports.arms import (
    Arm,
    arms_of,
    compare_runs,
    differences,
    leaves_pre,
    loss_shares,
    measures_of,
    other_probes,
    other_shifts,
    probe_rows,
    start_of,
    tasks_of,
    trained_probe,
    unseen_labels,
)
from tofro.reports.collect import RunRecord
from tofro.reports.encoder_tables import unigram_gain
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.statistics import SMALLEST_PAIRS, Comparison, holm, pairs_needed

LEARNT_NATS = 1.0  # an encoder less than this below unigram has not learnt enough to have anything flow
WORST_MLM = 0.02  # the held-out loss may rise by this share
OTHER_TASKS = 4  # fewer are too few to speak of generality
RIVALS = {  # arms that two-way must beat: the method, the one null control it is under, how it is called
    ("ema", None): "EMA feedback",
    ("two_way", "no_task"): "no task loss",
    ("two_way", "shuffled_labels"): "shuffled labels",
}
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
    """What the clauses add up to, in one ``word`` and a sentence.

    ``notes`` say how much there was to flow back, and how many pairs a point would take.
    """

    about: str
    word: str  # holds | does not hold | underpowered | no verdict
    sentence: str
    clauses: tuple[Clause, ...] = ()
    notes: tuple[str, ...] = ()


def judge(runs: Sequence[RunRecord]) -> list[Verdict]:
    """Return a verdict for every two-way arm without a null control whose ``pre`` moved, on every task."""
    verdicts = []
    for task in tasks_of(runs):
        arms = arms_of(runs, task)
        moved = [arm for arm in arms if arm.method == "two_way" and not arm.controls and not leaves_pre(arm)]
        verdicts += [_judge_arm(arm, arms, runs) for arm in moved]
    return verdicts


def _judge_arm(arm: Arm, arms: Sequence[Arm], runs: Sequence[RunRecord]) -> Verdict:
    clauses = tuple(_holm_adjusted([*_rival_clauses(arm, arms), _retention(arm), _generality(arm)]))
    word, sentence = _word(clauses, _weaknesses(arm, runs))
    if _fewest_pairs(clauses) >= SMALLEST_PAIRS:
        starts = len({start_of(run) for run in arm.runs})
        sentence += " For this checkpoint only." if starts == 1 else f" Over {starts} pretraining seeds."
    rivals = [clause.comparison for clause in clauses[: len(RIVALS)] if clause.comparison is not None]
    notes = tuple(filter(None, (_headroom(arm), unseen_labels(arm), _power(rivals))))
    return Verdict(f"{arm.label} on {arm.task}", word, sentence, clauses, notes)


def _fewest_pairs(clauses: Sequence[Clause]) -> int:
    return min((clause.comparison.pairs for clause in clauses if clause.comparison is not None), default=0)


def _word(clauses: Sequence[Clause], weaknesses: Sequence[str]) -> tuple[str, str]:
    """Return the verdict's word and its sentence."""
    pairs = _fewest_pairs(clauses)
    weak = " ".join(f"{weakness}: underpowered." for weakness in weaknesses)
    if pairs < SMALLEST_PAIRS:
        return (
            "no verdict",
            f"{pairs} pair{'s' if pairs != 1 else ''} < {SMALLEST_PAIRS}: points and their mean, no more. {weak}".strip(),
        )
    if weak:
        return "underpowered", weak
    failed = [clause.claim for clause in clauses if clause.holds is False]
    if failed:
        return "does not hold", f"Failed: {'; '.join(failed)}."
    open_ = [clause.claim for clause in clauses if clause.holds is None]
    if open_:
        return "no verdict", f"Not judged: {'; '.join(open_)}."
    return "holds", "Every clause holds."


def _weaknesses(arm: Arm, runs: Sequence[RunRecord]) -> list[str]:
    """Say in which ways the encoder that the arm started from never learnt."""
    found = []
    starts = {start_of(run) for run in arm.runs}
    pretrained = [run for run in runs if run.method == "pretrain"]
    own = [run for run in pretrained if run.id in starts] or pretrained
    gain = min((gain for run in own if (gain := unigram_gain(run)) is not None), default=None)
    if gain is not None and gain < LEARNT_NATS:
        found.append(f"The encoder is {formats.nats(gain)} nats below unigram, less than {LEARNT_NATS:.0f}")
    over = over_random(arm, runs)
    if over is not None and over[0] <= 0:
        shown, count = formats.points(over[0], True), over[1]
        tasks = "one task" if count == 1 else f"{count} tasks"
        found.append(f"The encoder's probes are no better than a random encoder's ({shown} points over {tasks})")
    return found


def over_random(arm: Arm, runs: Sequence[RunRecord]) -> tuple[float, int] | None:
    """Return by how much the probes of an arm's start beat a random encoder's, and on how many tasks; None where none has both.

    The mean over tasks of mean over the arm's runs − mean over random encoders, of the same architecture where runs say which.
    Their probes must learn from as many rows: a few hundred more can be worth more than a pretraining.
    """
    starts, rows = {start_of(run) for run in arm.runs}, {probe_rows(run) for run in arm.runs}
    runs = [run for run in runs if {probe_rows(run)} == rows]
    gains = []
    for name in measures_of([arm], ("probe_",)):
        known = [value for _, value in arm.points(f"{name}_start")]
        drawn = [(start_of(run), value) for run in runs if (value := run.metrics.get(f"{name}_random")) is not None]
        same = [value for start, value in drawn if start in starts] or [value for _, value in drawn]
        if known and same:
            gains.append(math.fsum(known) / len(known) - math.fsum(same) / len(same))
    return (math.fsum(gains) / len(gains), len(gains)) if gains else None


def _headroom(arm: Arm) -> str:
    """Say how far ``ft`` is ahead of a probe on the encoder that both started from: about what there was to flow back.

    No bound: a probe of a ``pre`` that took up the task can end ahead of ``ft``, whose head a probe is not.
    """
    probe, score = trained_probe(arm), parse_metric(arm.score or "")
    if probe is None or score.encoder != "ft":
        return ""
    taught = f"{parse_metric(f'{probe}_start').split}/{score.what}_ft"  # the split that was probed
    ahead = [
        run.metrics[taught] - run.metrics[f"{probe}_start"] for run in arm.runs if {taught, f"{probe}_start"} <= {*run.metrics}
    ]
    if not ahead:
        return ""
    mean = math.fsum(ahead) / len(ahead)
    said = "about what there was to flow back" if mean > 0 else "so the task had nothing to give"
    return f"ft less a probe on the untouched encoder: {formats.points(mean, True)}, {said}."


def _power(rivals: Sequence[Comparison]) -> str:
    spread = max((one.sd for one in rivals if one.pairs > 1), default=0.0)
    if not spread > 0:
        return ""
    needed = pairs_needed(spread, 0.01)
    return f"One point at sd {formats.points(spread)}, the widest of these differences, needs about {needed} pairs (power 0.8)."


def _rival_clauses(arm: Arm, arms: Sequence[Arm]) -> list[Clause]:
    clauses = []
    probe = trained_probe(arm)
    for (method, control), words in RIVALS.items():
        claim = f"task probe of pre beats {words}"
        rival = _rival(arm, arms, method, control, f"{probe}_pre")
        found = differences(arm, rival, f"{probe}_pre") if rival is not None and probe is not None else []
        if not found:
            clauses.append(Clause(claim, "arm not run" if rival is None else "no pairs"))
            continue
        metric = parse_metric(f"{probe}_pre")
        comparison = compare_runs(found, metric)
        unlike = sorted(_unlike(arm, rival)) if rival is not None and rival.method == arm.method else []
        reading = _reading(comparison, metric) + (f", but {unlike[0]} differs" if unlike else "")
        clauses.append(Clause(claim, reading, None, comparison))
    return clauses


def _rival(arm: Arm, arms: Sequence[Arm], method: str, control: str | None, metric: str) -> Arm | None:
    """Return the arm to beat: of this method under this control and no other.

    Of several it is one whose settings are most like the arm's, where they can be, and of these the hardest to beat.
    """
    controls = frozenset() if control is None else frozenset({control})
    rivals = [one for one in arms if one.method == method and one.controls == controls]

    def strength(rival: Arm) -> tuple[int, float]:
        values = [value for _, value in rival.points(metric)]
        likeness = -len(_unlike(arm, rival)) if method == arm.method else 0
        return likeness, math.fsum(values) / len(values) if values else -math.inf

    return max(rivals, key=strength, default=None)


def _unlike(arm: Arm, rival: Arm) -> set[str]:
    """Return the keys that differ between two arms, but for those that a control sets beside its own."""
    one, other = arm.runs[0].config, rival.runs[0].config
    differing = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    return {key for key in differing if "." in key and not key.startswith(("control.", "budget.", "method."))}


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
    found = loss_shares(arm)
    if not found:
        return Clause(claim, "not measured")
    comparison = compare_runs(found, Metric("validation", "mlm_loss", "pre"))
    holds = None if comparison.interval is None else comparison.interval.high <= WORST_MLM
    text = f"{100 * comparison.mean:+.1f}%".replace("-", "−")
    if comparison.interval is not None:
        text += f" ({100 * comparison.interval.low:+.1f} to {100 * comparison.interval.high:+.1f})".replace("-", "−")
    return Clause(claim, f"{text}, n = {comparison.pairs}", holds, comparison)


def _generality(arm: Arm) -> Clause:
    claim = "mean change over the other tasks' probes not below 0"
    found = other_shifts(arm)
    if not found:
        return Clause(claim, "not measured")
    comparison, others = compare_runs([(run, after - before) for run, before, after in found]), other_probes(arm)
    holds = None if comparison.interval is None else comparison.interval.low >= 0
    few = f", fewer than {OTHER_TASKS}" if len(others) < OTHER_TASKS else ""
    return Clause(
        claim,
        f"{_reading(comparison, Metric('test', 'probe_', 'pre'))}, {len(others)} task{'s' if len(others) != 1 else ''}{few}",
        holds,
        comparison,
    )


def _reading(comparison: Comparison, metric: Metric) -> str:
    text = formats.measured(comparison.mean, metric, True)
    if comparison.interval is not None:
        text += f" ({formats.span(comparison.interval.low, comparison.interval.high, metric, True)})"
    return f"{text}, n = {comparison.pairs}"
