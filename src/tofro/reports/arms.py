"""Runs grouped into arms: what a table's row and a figure's colour stand for.

In: finished runs. Out: :class:`Arm`, the runs of one method (and variant) on one task. Runs of a method without seeds, prompts,
form one arm over their templates. Pairing by seed happens here, because only here is it known what makes two runs a pair, and
which pairs share a pretrained encoder. Later stages of a stream are left out: each starts where no other arm does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tofro.modules.settings import MethodSettings
from tofro.reports.collect import RunRecord
from tofro.reports.formats import Metric, parse_metric
from tofro.reports.statistics import Comparison, compare, pair_by_unit

SEEDLESS = frozenset({"prompt"})  # deterministic: they spread over templates, not over seeds
FLOORS = {  # what any method must beat: method or metric suffix -> how it is called
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic",
    "random_encoder": "random encoder",
}
# these have no gradient at `pre`
LEAVES_PRE = frozenset(
    {"full", "partial", "lora", "bitfit", "l2_sp", "task_mlm", "distillation", "from_scratch", "prompt", "prompt_tune", *FLOORS}
)
NULL_CONTROLS = ("no_task", "shuffled_labels", "shuffled_pairing", "random_ft", "no_alignment")  # what a method is robbed of
RETENTION = ("mlm_loss", "pair_accuracy")
USE = (*RETENTION, "probe_", "knn_", "few_shot_", "prompt_")  # what knowledge is good for, beside how it was kept
_FIRST: tuple[str, ...] = (
    *("pretrain", "full", "partial", "lora", "bitfit", "l2_sp", "task_mlm", "distillation", "from_scratch", "prompt"),
    *("prompt_tune", "two_way", "prompt_tune_two_way", "ema", "mutual", "wise", "continued_mlm"),
)
ENSEMBLE = "ensemble"  # the variant of a prompt whose templates answered together
_TEMPLATE = re.compile(r"[,;]?\s*template \d+\s*$")


@dataclass(frozen=True)
class Arm:
    """The runs of one method and variant on one task, in plan order."""

    method: str
    variant: str
    task: str
    runs: tuple[RunRecord, ...]

    @property
    def label(self) -> str:
        """Name of the row: method, variant, and of a prompt which template, or how many of them."""
        name = f"{FLOORS.get(self.method, self.method)}, {self.variant}" if self.variant else FLOORS.get(self.method, self.method)
        if self.method not in SEEDLESS:
            return name
        if ENSEMBLE in self.variant.split(", "):
            return f"{name} of {len({each for run in self.runs for each in templates_of(run)})} templates"
        asked = {run.variant.rpartition(", ")[2] for run in self.runs}
        return f"{name}, {len(asked)} templates" if len(asked) > 1 else f"{name}, {asked.pop() or '1 template'}"

    @property
    def key(self) -> str:
        """Method and variant, the same on every task: what a colour belongs to."""
        return f"{self.method} {self.variant}".strip()

    @property
    def controls(self) -> frozenset[str]:
        """The null controls that the arm's runs are under."""
        return frozenset().union(*(controls_of(run) for run in self.runs))

    @property
    def score(self) -> str | None:
        """Name of the primary metric."""
        return next((run.score for run in self.runs if run.score), None)

    def points(self, metric: str | None) -> list[tuple[RunRecord, float]]:
        """The runs that have ``metric``, with its value."""
        return [(run, run.metrics[metric]) for run in self.runs if metric is not None and metric in run.metrics]

    def mean_cost(self, key: str) -> float | None:
        """Mean over the runs of one entry of their costs."""
        found = [run.cost[key] for run in self.runs if key in run.cost]
        return sum(found) / len(found) if found else None


def templates_of(run: RunRecord) -> dict[str, float]:
    """Return the scores of a prompted run's templates by their names: of the one that it asked, or of each of an ensemble."""
    score = parse_metric(run.score or "")
    name = re.compile(rf"{re.escape(f'{score.split}/{score.what}')}_(template_\d+)_{score.encoder}")
    found = {match[1].replace("_", " "): value for key, value in run.metrics.items() if (match := name.fullmatch(key))}
    own = run.metrics.get(run.score or "")
    return found or ({} if own is None else {run.variant.rpartition(", ")[2]: own})


def controls_of(run: RunRecord) -> frozenset[str]:
    """Return the null controls of a run: words of its variant, by their exact names; keys of ``control`` that have no name."""
    named = frozenset(NULL_CONTROLS) & {word.strip() for word in run.variant.split(",")}
    return named or frozenset(f"{key}={value}" for key, value in run.config.items() if key.startswith("control."))


def arms_of(runs: Sequence[RunRecord], task: str) -> list[Arm]:
    """Return the arms on ``task``, floors last, else in the order of their first runs' methods."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for run in runs:
        if run.task == task and run.method != "pretrain" and not run.streamed:
            variant = _TEMPLATE.sub("", run.variant) if run.method in SEEDLESS else run.variant
            groups.setdefault((run.method, variant), []).append(run)
    arms = [Arm(method, variant, task, tuple(members)) for (method, variant), members in groups.items()]
    return sorted(arms, key=lambda arm: (arm.method in FLOORS, _FIRST.index(arm.method) if arm.method in _FIRST else len(_FIRST)))


def tasks_of(runs: Sequence[RunRecord]) -> list[str]:
    """The tasks of the runs, in order."""
    kept = (run for run in runs if run.method != "pretrain" and not run.streamed)
    return list(dict.fromkeys(run.task for run in kept if run.task is not None))


def reference_arm(arms: Sequence[Arm]) -> Arm | None:
    """The arm that others are compared with: ``full``, the first of its variants."""
    return next((arm for arm in arms if arm.method == "full"), None)


def same_score(one: Arm, other: Arm) -> bool:
    """Whether two arms' primary metrics are one quantity, of whichever encoder: an accuracy is no probe."""
    left, right = (parse_metric(arm.score or "") for arm in (one, other))
    return (left.split, left.what) == (right.split, right.what)


def comparable(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms whose primary metric is that of `full`, or of the first arm that has one: what one axis can show."""
    scored = [arm for arm in arms if arm.score is not None]
    reference = reference_arm(scored) or next(iter(scored), None)
    return [arm for arm in scored if reference is not None and same_score(arm, reference)]


def differences(arm: Arm, reference: Arm, metric: str | None = None) -> list[tuple[RunRecord, float]]:
    """Return ``arm - reference`` paired by seed, or by starting point and seed where an arm has several starting points.

    ``metric`` is the arms' own primary metric where it is None. Empty where these are two quantities, where an arm has no seeds,
    or several runs of one unit: then nothing says which run belongs to which.
    """
    if arm.method in SEEDLESS or reference.method in SEEDLESS or (metric is None and not same_score(arm, reference)):
        return []
    starts = [{start_of(run) for run in one.runs} for one in (arm, reference)]
    by_start = max(map(len, starts)) > 1
    left, right = (_by_unit(one.points(metric or one.score), by_start) for one in (arm, reference))
    if left is None or right is None:
        return []
    paired = pair_by_unit({unit: value for unit, (_, value) in left.items()}, {unit: value for unit, (_, value) in right.items()})
    return [(left[unit][0], difference) for unit, difference in paired.items()]  # type: ignore[index]


def start_of(run: RunRecord) -> str:
    """Return what names the pretrained encoder that a run started from: its cluster among pairs."""
    return str(run.lineage.get("init_from"))


def compare_runs(found: Sequence[tuple[RunRecord, float]], metric: Metric | None = None) -> Comparison:
    """Summarise differences that belong to runs, clustered by what these started from."""
    lower = metric is not None and metric.lower_is_better
    return compare([value for _, value in found], [start_of(run) for run, _ in found], lower_is_better=lower)


def _by_unit(found: Sequence[tuple[RunRecord, float]], by_start: bool) -> dict[tuple[str, int], tuple[RunRecord, float]] | None:
    units: dict[tuple[str, int], tuple[RunRecord, float]] = {}
    for run, value in found:
        unit = (start_of(run) if by_start else "", run.seed)
        if unit in units:
            return None
        units[unit] = (run, value)
    return units


def trained_probe(arm: Arm) -> str | None:
    """Return the measure, without encoder, that probes ``pre`` on the arm's own task; None where it was not probed."""
    own = f"probe_{arm.task}"
    return next((name for name in measures_of([arm], ("probe_",)) if parse_metric(name + "_pre").what == own), None)


def probe_rows(run: RunRecord) -> int:
    """How many training rows a probe learns from, at most."""
    return int(run.config.get("method.probe_rows", MethodSettings.probe_rows))


def unseen_labels(arm: Arm) -> str:
    """Say so where a probe on the own task learns from fewer rows than ``ft`` did; nothing where it does not, or none can tell.

    What ``ft`` learnt of the other rows then counts as a gain of ``pre`` that no probe of the start could have had.
    """
    taught = max((int(run.cost.get("rows") or run.config.get("task.train_rows") or 0) for run in arm.runs), default=0)
    probed = min(map(probe_rows, arm.runs), default=0)
    if trained_probe(arm) is None or parse_metric(arm.score or "").encoder != "ft" or probed >= taught:
        return ""
    return (
        f"The probe on {arm.task} learns from {probed:,} of the {taught:,} rows that trained ft: its gain holds labels that the "
        f"start's probe never saw. With method.probe_rows={taught} both see the same."
    )


def loss_shares(arm: Arm) -> list[tuple[RunRecord, float]]:
    """By what share of its start's the held-out MLM loss of ``pre`` rose in each run; empty where it was not measured."""
    found = next((moved for name in measures_of([arm]) if name.endswith("/mlm_loss") and (moved := shifts(arm, name))), [])
    return [(run, after / before - 1) for run, before, after in found]


def floors_of(arms: Sequence[Arm]) -> dict[str, list[tuple[RunRecord, float]]]:
    """Floors that the arms' runs recorded as metrics beside their score: ``test/accuracy_majority`` and the like.

    Returns floor -> points; a floor that is the same in every run is one point, and one that has runs of its own is left out.
    """
    own = {arm.method for arm in arms}
    found: dict[str, dict[int, tuple[RunRecord, float]]] = {}
    for arm in arms:
        if arm.score is None:
            continue
        score = parse_metric(arm.score)
        for run in arm.runs:
            for floor in FLOORS:
                value = run.metrics.get(f"{score.split}/{score.what}_{floor}")
                if value is not None and floor not in own:
                    found.setdefault(floor, {}).setdefault(run.seed, (run, value))
    return {
        floor: list(by_seed.values())[: 1 if len({value for _, value in by_seed.values()}) == 1 else None]
        for floor, by_seed in sorted(found.items(), key=lambda entry: list(FLOORS).index(entry[0]))
    }


def shifts(arm: Arm, metric: str) -> list[tuple[RunRecord, float, float]]:
    """(run, before, after) of one measure of ``pre``; ``metric`` is its name without encoder, ``test/probe_sst2`` say."""
    return [
        (run, run.metrics[f"{metric}_start"], run.metrics[f"{metric}_pre"])
        for run in arm.runs
        if f"{metric}_start" in run.metrics and f"{metric}_pre" in run.metrics
    ]


def other_probes(arm: Arm) -> list[str]:
    """The probes of tasks that the arm was not trained on, without encoder."""
    return [name for name in measures_of([arm], ("probe_",)) if of_task(parse_metric(f"{name}_pre").what) != arm.task]


def other_shifts(arm: Arm) -> list[tuple[RunRecord, float, float]]:
    """(run, before, after) of the mean over the probes of ``pre`` on other tasks."""
    sides: dict[str, list[tuple[float, float]]] = {}
    for name in other_probes(arm):
        for run, before, after in shifts(arm, name):
            sides.setdefault(run.name, []).append((before, after))
    found = []
    for run in arm.runs:
        if run.name in sides:
            start, end = (math.fsum(side) / len(side) for side in zip(*sides[run.name], strict=True))
            found.append((run, start, end))
    return found


def leaves_pre(arm: Arm) -> bool:
    """Whether ``pre`` is what it was: by the method's nature, or because every measure of it is the same to the last bit."""
    pairs = [pair for metric in measures_of([arm]) for pair in shifts(arm, metric)]
    return all(before == after for _, before, after in pairs) if pairs else arm.method in LEAVES_PRE


def measures_of(arms: Sequence[Arm], kinds: Sequence[str] = USE) -> list[str]:
    """What was measured of ``pre`` before a run, without encoder: MLM loss, pair accuracy, the trained task's measures, others'.

    ``kinds`` are the beginnings of names that count.
    """
    names: set[str] = set()
    for arm in arms:
        for run in arm.runs:
            for name in run.metrics:
                metric = parse_metric(name)
                if metric.encoder == "start" and metric.what.startswith(tuple(kinds)):
                    names.add(f"{metric.split}/{metric.what}")
    trained = {arm.task for arm in arms}

    def order(name: str) -> tuple[int, int, list[int | str]]:
        what = parse_metric(name + "_pre").what
        if what.startswith(RETENTION):
            return RETENTION.index(next(kind for kind in RETENTION if what.startswith(kind))), 0, [what]
        kind = next(place for place, kind in enumerate(USE) if what.startswith(kind))
        numbers: list[int | str] = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", what)]
        return (2 if of_task(what) in trained else 3), kind, numbers

    return sorted(names, key=order)


def of_task(what: str) -> str | None:
    """Return the task that a measure is about, ``sst2`` of ``few_shot_8_sst2``; None where it is about none."""
    match = re.match(r"(?:probe|knn|few_shot_\d+|prompt)_(.+)", what)
    return match[1] if match else None
