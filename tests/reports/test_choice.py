"""The setting that the rule takes is the one a hand would take, from validation alone; arms are told apart by what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reports.conftest import result, write_run
from tofro.reports.choice import Setting, choice_table, choose
from tofro.reports.collect import RunRecord, collect

SUPCON = {"alignment.loss._target_": "tofro.objectives.alignment.supcon"}
INFONCE = {
    "alignment.loss._target_": "tofro.objectives.alignment.infonce",
    "alignment.loss.temperature": 0.07,
    "alignment.loss.same_label": "repel",
}
REPLAY = {"regularizer.replay": 1.0}


def setting(probe: float | None, loss: float | None, ft: float = 0.8, whole: bool = True) -> Setting:
    return Setting("", 1, probe, 0.0, loss, ft, whole)


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    """Write runs that were measured on validation; returns them read."""
    number = iter(range(1, 1000))

    def write(method: str, config: dict[str, Any], probe: float | None, loss: float, ft: float = 0.8, **more: Any) -> None:
        task = more.pop("task", "sst2")
        metrics = {"validation/accuracy_ft": ft, "test/accuracy_ft": 1.0, f"validation/probe_{task}_start": 0.5}
        metrics |= {"validation/mlm_loss_start": 5.0, "validation/mlm_loss_pre": 5.0 * (1 + loss)}
        metrics |= {} if probe is None else {f"validation/probe_{task}_pre": probe, f"test/probe_{task}_pre": 1 - probe}
        settings = {"method.split": "validation", "seed": 100, "task.path": task, **config}
        write_run(
            tmp_path / "runs", result(method, 100, task=task, id=f"{next(number):08x}", metrics=metrics, config=settings, **more)
        )

    def read() -> tuple[RunRecord, ...]:
        return collect([tmp_path / "runs"]).runs

    return write, read


def rows(runs: tuple[RunRecord, ...]) -> list[list[str]]:
    table = choice_table(runs)
    assert table is not None
    return [[cell.text for cell in row] for row in table.rows]


def test_the_rule_takes_the_highest_probe_that_keeps_the_language() -> None:
    kept, better, broken = setting(0.6, 0.01), setting(0.7, 0.02), setting(0.9, 0.0201)
    assert choose([kept, better, broken]) is better
    assert choose([broken, setting(0.95, 0.03)]) is broken  # none keeps it: the least loss
    assert choose([setting(0.9, 0.0, whole=False), kept]) is kept
    assert choose([setting(None, None, 0.7), best := setting(None, None, 0.9), setting(None, None, 0.8)]) is best
    assert choose([setting(0.9, 0.0, whole=False)]) is None


def test_arms_differ_in_names_and_settings_in_numbers(tried: Any) -> None:
    write, read = tried
    for task in ("sst2", "trec"):
        for rate, probe in ((1e-4, 0.60), (5e-4, 0.70)):
            write("two_way", {**SUPCON, "optimizer.lr_pre": rate}, probe + (task == "trec") / 10, rate * 50, task=task)
            write("two_way", {**INFONCE, "optimizer.lr_pre": rate}, probe - 0.2, rate * 10, task=task)
            write("two_way", {**SUPCON, **REPLAY, "optimizer.lr_pre": rate}, 0.5 + rate, -0.01, task=task)
    write("full", {"optimizer.lr": 1e-3}, None, 0.0, 0.9)
    write("full", {"optimizer.lr": 2e-3}, None, 0.0, 0.8)
    write("ema", {**INFONCE, "alignment.ema": 0.9}, 0.8, 0.01)  # a single setting: nothing to choose
    assert rows(read()) == [
        ["full", "optimizer.lr=0.001", "–", "–", "–", "90.0", "1", "✓"],
        ["", "optimizer.lr=0.002", "–", "–", "–", "80.0", "1", ""],
        ["two_way, supcon", "optimizer.lr_pre=0.0001", "65.0", "+15.0", "+0.5%", "80.0", "2", "✓"],
        ["", "optimizer.lr_pre=0.0005", "75.0", "+25.0", "+2.5%", "80.0", "2", ""],
        ["two_way, infonce", "optimizer.lr_pre=0.0001", "40.0", "−10.0", "+0.1%", "80.0", "2", ""],
        ["", "optimizer.lr_pre=0.0005", "50.0", "0.0", "+0.5%", "80.0", "2", "✓"],
        ["two_way, supcon, replay", "optimizer.lr_pre=0.0001", "50.0", "0.0", "−1.0%", "80.0", "2", ""],
        ["", "optimizer.lr_pre=0.0005", "50.0", "0.0", "−1.0%", "80.0", "2", "✓"],
    ]


def test_runs_measured_on_test_choose_nothing(tried: Any) -> None:
    write, read = tried
    for rate in (1e-4, 5e-4):
        write("two_way", {**SUPCON, "optimizer.lr_pre": rate, "method.split": "test"}, 0.6, 0.01)
    assert choice_table(read()) is None


def test_a_setting_that_missed_a_task_is_not_taken(tried: Any) -> None:
    write, read = tried
    for decay in (0.9, 0.99):
        write("ema", {"alignment.ema": decay}, decay, 0.01)
    write("ema", {"alignment.ema": 0.9}, 0.6, 0.01, task="trec")
    assert [(row[1], row[-1]) for row in rows(read())] == [("alignment.ema=0.9", "✓"), ("alignment.ema=0.99", "")]
