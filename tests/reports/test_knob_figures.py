"""Lines join what differs in one knob alone; the front holds whom no other beats; curves of many runs stay light."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tofro.reports.arms import Arm, arms_of
from tofro.reports.collect import collect
from tofro.reports.figures import FIGURE_POINTS, all_figures, paper_figure, points_each
from tofro.reports.knob_figures import KNOBS, cost_figure, front, knob_figures, lines_of
from tofro.reports.looks import looks_of
from tofro.reports.variants import name_variants

Make = Callable[..., Path]
LAMBDA = KNOBS[0]


@pytest.fixture
def arms(make_run: Make, tmp_path: Path) -> list[Arm]:
    """λ at its default, 0.01 and 1; one other loss at two λ; `full` and a run that differs in more than λ."""

    def made(method: str, place: int, score: float, **config: Any) -> None:
        keys = {name.replace("__", "."): value for name, value in config.items()}
        for seed in (0, 1):
            metrics = {"test/accuracy_ft": score + 0.01 * seed, "test/probe_pydoc_kind_start": 0.4}
            metrics["test/probe_pydoc_kind_pre"] = 0.4 if method == "full" else 0.4 + score / 10
            make_run(
                method,
                seed,
                metrics=metrics,
                config=keys | {"seed": seed, "budget.steps": keys.get("budget.steps", 90)},
                id=f"{place:04d}{seed:04d}",
                cost={"flops": 1e9 * (1 + (method != "full")), "seconds": 5.0},
            )

    made("full", 0, 0.5)
    made("two_way", 1, 0.55)
    made("two_way", 2, 0.5, alignment__weight=0.01)
    made("two_way", 3, 0.6, alignment__weight=1)
    made("two_way", 4, 0.52, alignment__weight=1, alignment__loss___target_="tofro.objectives.alignment.mse")
    made("two_way", 5, 0.53, alignment__loss___target_="tofro.objectives.alignment.mse")
    made("two_way", 6, 0.7, alignment__weight=3, optimizer__lr=0.1)
    return arms_of(name_variants(collect([tmp_path / "runs"]).runs), "pydoc_kind")


def test_a_line_is_one_config_but_for_the_knob(arms: list[Arm]) -> None:
    lines = lines_of(arms, LAMBDA, {})
    assert sorted(tuple(value for value, _ in line.arms) for line in lines) == [(0.01, 0.1, 1.0), (0.1, 1.0)]
    assert {line.label for line in lines} == {"two_way", "two_way, mse"}
    assert not lines_of(arms, KNOBS[1], {})  # no run differs in its steps


def test_curves_over_a_knob_hold_scores_and_what_became_of_pre(arms: list[Arm]) -> None:
    (figure,) = knob_figures(arms, {})
    assert figure.name == "over-alignment-weight-pydoc-kind"
    rows = list(csv.DictReader(io.StringIO(figure.csv)))
    assert {row["measure"] for row in rows} == {"test/accuracy_ft", "change of test/probe_pydoc_kind_pre"}
    assert len(rows) == 2 * 5 * 2
    changed = [float(row["value"]) for row in rows if row["measure"].startswith("change") and row["alignment.weight"] == "1"]
    assert changed == pytest.approx([0.06, 0.06, 0.052, 0.052])
    assert "0.01" in figure.svg


def test_a_budget_may_bring_its_own_evaluations(make_run: Make, tmp_path: Path) -> None:
    for steps in (50, 200):
        config = {"budget.steps": steps, "budget.evaluate_every": steps // 5}
        make_run("full", 0, config=config, metrics={"test/accuracy_ft": 0.5}, id=f"{steps:08d}")
    arms = arms_of(name_variants(collect([tmp_path / "runs"]).runs), "pydoc_kind")
    assert [figure.name for figure in knob_figures(arms, {})] == ["over-budget-steps-pydoc-kind"]


def test_cost_and_quality(arms: list[Arm]) -> None:
    figure = cost_figure(arms, {})
    assert figure is not None
    rows = {row["arm"]: row for row in csv.DictReader(io.StringIO(figure.csv))}
    on_front = [name for name, row in rows.items() if row["on front"] == "yes"]
    assert on_front[0] == "full"
    assert len(on_front) == 2
    assert float(rows[on_front[1]]["score"]) == pytest.approx(0.705)


@pytest.mark.parametrize(
    ("points", "lower", "expected"),
    [
        ([(1, 5), (2, 6), (3, 5.5), (1, 4)], False, [0, 1]),
        ([(2, 6), (1, 6)], False, [1]),
        ([(1, 5), (2, 4), (3, 4.5)], True, [0, 1]),
        ([], False, []),
    ],
)
def test_the_front(points: list[tuple[float, float]], lower: bool, expected: list[int]) -> None:
    assert front(points, lower) == expected


def test_what_is_no_accuracy_is_on_no_axis_of_accuracies(make_run: Make, tmp_path: Path) -> None:
    for seed in range(2):
        make_run("full", seed, metrics={"test/accuracy_ft": 0.5}, cost={"seconds": 3})
        make_run("two_way", seed, metrics={"test/accuracy_ft": 0.6}, cost={"seconds": 3})
        probe = {"test/probe_pydoc_kind_pre": 0.987, "test/probe_pydoc_kind_start": 0.4}
        make_run("continued_mlm", seed, score="test/probe_pydoc_kind_pre", metrics=probe, cost={"seconds": 3})
    figures = {figure.name: figure for figure in all_figures(collect([tmp_path / "runs"]))}
    for name in ("scores-pydoc-kind", "cost-pydoc-kind"):
        assert "continued_mlm" not in figures[name].csv
    assert "continued_mlm" in figures["flow-back-pydoc-kind"].csv


def test_many_curves_share_the_points_of_a_figure() -> None:
    assert points_each(1) == points_each(20) == 160
    assert 100 * points_each(100) <= FIGURE_POINTS
    assert points_each(10_000) > 0


def test_the_figure_of_a_paper_is_a_pdf_with_its_data(study: Path) -> None:
    collection = collect([study])
    figure = paper_figure(collection)
    assert figure is not None
    assert figure.pdf.startswith(b"%PDF")
    assert figure.pdf == figure.pdf
    assert b"CreationDate" not in figure.pdf
    assert {row["measure"] for row in csv.DictReader(io.StringIO(figure.csv))} > {"test/accuracy"}
    assert looks_of(collection.runs)["full"].colour in figure.svg
