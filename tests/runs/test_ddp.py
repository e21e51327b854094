"""Many ranks are one: the same gradients, losses, metrics and counts as one process, in real processes over gloo."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import NOUNS, small_run
from tests.ranks import together
from tests.runs.conftest import PROMPT
from tofro.batches.types import Batch
from tofro.config.compose import compose
from tofro.modules import base
from tofro.modules.metrics import task_metric
from tofro.runs import counting, ranks
from tofro.runs.methods import carry_out
from tofro.runs.run import _begin, identify, run

TWO_STEPS = [
    *("budget.batch=16", "budget.steps=2", "budget.evaluate_every=1", "method.measure=false"),
    "trainer.gradients_every=1",  # so that the rows that are compared hold the terms' gradients too
]
CUT = "budget.accumulate=2"
PRETRAIN = ["method=pretrain", "objective.unit=sentence"]  # whose lengths differ
FULL = ["method=full", "method.dropout=0"]
COSINE = [
    "method=two_way",
    "method.dropout=0",
    "alignment=cosine",
    "alignment.every=2",
    "regularizer=distilled_replay",
    "regularizer.replay_states=10",
]
CONTRAST = [
    "method=two_way",
    "method.dropout=0",
    "alignment=supcon",
    "alignment.projector=mlp",
    "alignment.learn_temperature=true",
]
PAIRING = ["method=two_way", "method.dropout=0", "control=shuffled_pairing", "alignment.layers=[-1,-2]"]
REPLAY = ["method=ema", "method.dropout=0", "regularizer=replay", "regularizer.l2_sp=0.1"]
TUNED_PROMPT = [
    *("method=prompt_tune_two_way", "method.dropout=0", "alignment=cosine"),
    *(*PROMPT[1:3], "prompt.words={good: [river], bad: [doctor]}"),
]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world like ``world``, of sentences and texts of 2 to 20 words."""
    folder, draw = tmp_path_factory.mktemp("uneven"), random.Random(5)

    def text() -> str:
        return " ".join(draw.choices(NOUNS, k=draw.randint(2, 20))).capitalize() + "."

    (folder / "corpus.txt").write_text("\n\n".join("\n".join(text() for _ in range(8)) for _ in range(60)), encoding="utf-8")
    rows = [{"text": f"{number} {text()}", "label": "good" if number % 3 else "bad"} for number in range(200)]
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@dataclass
class Seen:
    """What one rank saw of a training: gradients before each update, counts of each micro-batch, rows and cost of the first."""

    gradients: list[dict[str, torch.Tensor]]
    counts: list[dict[str, int]]
    rows: list[dict[str, Any]]
    cost: dict[str, float]


@contextmanager
def _listening(seen: Seen) -> Iterator[None]:
    clip, step = base.clip_per_encoder, base.TransferModule.training_step

    def clipped(models: Any, *largest: float | None) -> Any:
        named = ((f"{key}.{name}", each) for key, model in models.items() for name, each in model.named_parameters())
        seen.gradients.append({name: each.grad.clone() for name, each in named if each.grad is not None})
        return clip(models, *largest)

    def stepped(self: Any, batch: Batch, index: int) -> Any:
        seen.counts.append(batch.counts)
        return step(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "clip_per_encoder", clipped)
        patch.setattr(base.TransferModule, "training_step", stepped)
        patch.setattr(counting, "SAMPLES", 1)
        yield


def train(overrides: list[str], outputs: Path) -> Seen:
    """Carry a run out on this rank, as the launcher's ranks do."""
    size = ranks.world_size()
    config = compose([*overrides, f"outputs_dir={outputs / str(size)}"])
    folder = outputs / str(size) / "run"
    if ranks.is_first():
        folder.mkdir(parents=True)
        _begin(folder, config, identify(config))
    ranks.wait()
    seen = Seen([], [], [], {})
    with _listening(seen), suppress(SystemExit):
        seen.cost = carry_out(config, folder).cost
        seen.rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return seen


def whole_norm(gradient: dict[str, torch.Tensor]) -> float:
    """Return the norm of all gradients together."""
    return float(torch.cat([each.double().flatten() for each in gradient.values()]).norm())


@pytest.mark.parametrize(
    "method", [[*PRETRAIN, CUT], ["objective=mlm", *PRETRAIN], [*FULL, CUT], COSINE, CONTRAST, PAIRING, REPLAY], ids=" ".join
)
def test_two_ranks_have_the_gradient_of_one(uneven: Path, tmp_path: Path, method: list[str]) -> None:
    base = small_run(uneven, tmp_path)
    start = pretrained(base) if "regularizer=distilled_replay" in method else []
    check_two_ranks([*base, *start, *method, *TWO_STEPS], tmp_path)


@pytest.mark.slow
def test_two_ranks_have_the_gradient_of_one_through_a_prompt(uneven: Path, tmp_path: Path) -> None:
    base = small_run(uneven, tmp_path)
    check_two_ranks([*base, *pretrained(base), *TUNED_PROMPT, *TWO_STEPS], tmp_path)


def pretrained(base: list[str]) -> list[str]:
    """Pretrain for a step; return what makes a run start from there."""
    return [f"init_from={run(compose([*base, 'method=pretrain', 'budget.steps=1', 'method.measure=false']), []).folder}"]


def check_two_ranks(overrides: list[str], tmp_path: Path) -> None:
    (one,) = together(1, train, overrides, tmp_path)
    first, second = together(2, train, overrides, tmp_path)
    assert len(first.gradients) == 2
    assert first.counts[0]["tokens"] != second.counts[0]["tokens"], "the ranks' shares should weigh differently"
    for mine, theirs, expected in zip(first.gradients, second.gradients, one.gradients, strict=True):
        assert mine.keys() == theirs.keys() == expected.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        difference = {name: mine[name] - expected[name] for name in mine}
        assert whole_norm(difference) <= 2e-6 * whole_norm(expected)
    assert same_rows(first.rows, one.rows, 1e-5)
    assert [row for row in one.rows if "validation/loss_pre" in row or "validation/accuracy_ft" in row]
    assert first.cost["tokens"] == one.cost["tokens"]
    assert first.cost["flops"] == pytest.approx(one.cost["flops"], rel=0.2)


def same_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: float) -> bool:
    """Say whether two records name the same numbers, equal to ``tolerance``, time aside."""
    assert [list(row) for row in found] == [list(row) for row in expected]
    numbers = [(row[name], other[name]) for row, other in zip(found, expected, strict=True) for name in row if name != "seconds"]
    return all(abs(mine - theirs) <= tolerance for mine, theirs in numbers)


@pytest.mark.slow
@pytest.mark.parametrize("method", [PRETRAIN, FULL], ids=" ".join)
@pytest.mark.parametrize("size", [2, 4])
def test_losses_over_a_hundred_steps_do_not_depend_on_ranks(world: Path, tmp_path: Path, method: list[str], size: int) -> None:
    overrides = [*small_run(world, tmp_path), *method, "budget.steps=100", "budget.best=false", "budget.patience=null"]
    (one,) = together(1, train, overrides, tmp_path)
    first, *_ = together(size, train, overrides, tmp_path)
    assert len([row for row in one.rows if "train/loss" in row]) == 100
    assert same_rows(first.rows, one.rows, 1e-5)


def test_dropout_differs_by_rank(world: Path, tmp_path: Path) -> None:
    overrides = [*small_run(world, tmp_path), "method=full", "method.measure=false", "budget.steps=1"]
    first, second = together(2, _masks, overrides, tmp_path)
    assert first != second


def _masks(overrides: list[str], outputs: Path) -> int:
    """Return the seed of the first dropout mask that this rank draws."""
    seeds: list[int] = []
    generator = torch.default_generator
    with pytest.MonkeyPatch.context() as patch:
        told = SimpleNamespace(manual_seed=lambda seed: seeds.append(seed) or generator.manual_seed(seed))
        patch.setattr(torch, "default_generator", told)
        train(overrides, outputs)
    return seeds[0]


METRICS = ["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"]


def _score(name: str) -> float:
    """Return a metric of forty predictions, three quarters of them on the first of two ranks, in one part or three."""
    draw = torch.Generator().manual_seed(3)
    scores = name in ("pearson", "spearman")
    truth = torch.randn(40, generator=draw) if scores else torch.randint(2, (40,), generator=draw)
    found = truth + torch.randn(40, generator=draw) if scores else (truth + (torch.rand(40, generator=draw) < 0.3)) % 2
    mine = slice(0, 30) if ranks.is_first() else slice(30, 40)
    if ranks.world_size() == 1:
        mine = slice(0, 40)
    metric = task_metric(name, 2)
    for part in torch.arange(40)[mine].chunk(3 if ranks.is_first() else 1):
        metric.update(found[part], truth[part])
    return float(metric.compute())


def _scores() -> list[float]:
    with warnings.catch_warnings(action="ignore"):
        return [_score(name) for name in METRICS]


def test_metrics_are_the_same_at_two_ranks() -> None:
    first, second = together(2, _scores)
    assert first == second
    assert first == pytest.approx(_scores(), abs=1e-6)
    assert all(0.1 < score < 0.95 for score in first)
