"""What a task gave pre and took: changes from each run's own start, null controls hollow, arms that leave pre alone left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tofro.reports.arms import Arm, arms_of
from tofro.reports.collect import collect
from tofro.reports.drawing import PAPER
from tofro.reports.exchange_figure import exchange_figure
from tofro.reports.looks import looks_of
from tofro.reports.variants import name_variants

Make = Callable[..., Path]


def _make(make_run: Make, method: str, seed: int, probe: float, loss: float, place: int = 0, **words: object) -> None:
    metrics = {"test/accuracy_ft": 0.5, "test/probe_pydoc_kind_start": 0.4 + 0.01 * seed, "validation/mlm_loss_start": 5.0}
    metrics |= {"test/probe_pydoc_kind_pre": 0.4 + 0.01 * seed + probe, "validation/mlm_loss_pre": 5.0 * (1 + loss)}
    make_run(method, seed, metrics=metrics, config={"seed": seed}, **words, id=f"{place:04d}{seed:04d}")


def _arms(tmp_path: Path) -> list[Arm]:
    return arms_of(name_variants(collect([tmp_path / "runs"]).runs), "pydoc_kind")


def test_changes_are_from_each_runs_own_start(make_run: Make, tmp_path: Path) -> None:
    for seed in range(8):
        _make(make_run, "full", seed, 0.0, 0.0)
        _make(make_run, "ema", seed, 0.05 + 0.001 * seed, 0.01, 1)
        _make(make_run, "two_way", seed, 0.02, 0.04, 2)
        _make(make_run, "two_way", seed, -0.01, 0.03, 3, variant="no_task")
    arms = _arms(tmp_path)
    figure = exchange_figure(arms, looks_of(collect([tmp_path / "runs"]).runs))
    assert figure is not None
    rows = list(csv.DictReader(io.StringIO(figure.csv)))
    assert len(rows) == 24  # full leaves pre alone
    found = {row["arm"]: (float(row["mlm_loss_change_percent"]), float(row["probe_change_points"])) for row in rows}
    assert found["ema"] == pytest.approx((1.0, 5.7))
    assert found["two_way, no_task"] == pytest.approx((3.0, -1.0))
    (axes,) = figure.canvas.axes
    markers = {each.get_label(): each for each in axes.collections}
    hollow = {label for label, each in markers.items() if tuple(each.get_facecolor()[0][:3]) == _rgb(PAPER)}
    assert hollow == {"two_way, no_task"}
    assert tuple(markers["ema"].get_offsets()[0]) == pytest.approx((1.0, 5.35))


def test_one_arm_exchanges_nothing(make_run: Make, tmp_path: Path) -> None:
    _make(make_run, "full", 0, 0.0, 0.0)
    _make(make_run, "ema", 0, 0.05, 0.01, 1)
    assert exchange_figure(_arms(tmp_path), {}) is None


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
