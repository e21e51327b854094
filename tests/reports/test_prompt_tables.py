"""The table of prompts: what calibration gave, every template and their spread, from one run of all or a run of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tofro.reports.arms import arms_of, templates_of
from tofro.reports.collect import RunRecord, collect
from tofro.reports.formats import MISSING, parse_metric
from tofro.reports.prompt_tables import prompt_table
from tofro.reports.report import report
from tofro.reports.tables import method_table
from tofro.reports.variants import name_variants

Make = Callable[..., Path]
SCORES = (0.5, 0.6, 0.7)


@pytest.fixture
def runs(make_run: Make, tmp_path: Path) -> tuple[RunRecord, ...]:
    """Three templates each by itself, the same three in an ensemble, and that one without calibration."""
    name = "test/accuracy_pre"
    for number, score in enumerate(SCORES):
        metrics = {name: score, "test/accuracy_uncalibrated_pre": score - 0.1}
        make_run("prompt", 0, variant=f"template {number}", score=name, metrics=metrics, config={"prompt.template": number})
    alone = {f"test/accuracy_template_{number}_pre": score for number, score in enumerate(SCORES)}
    more = {"test/accuracy_templates_mean_pre": 0.6, "test/accuracy_templates_sd_pre": 0.1}
    config = {"prompt.template": None}
    calibrated = {name: 0.65, "test/accuracy_uncalibrated_pre": 0.6}
    make_run("prompt", 0, variant="ensemble", score=name, metrics=calibrated | alone | more, config=config)
    config = config | {"prompt.calibration": "none"}
    make_run("prompt", 0, variant="ensemble", score=name, metrics={name: 0.6} | alone, config=config, id="ffffffff")
    make_run("full", 0, metrics={"test/accuracy_ft": 0.8})
    return name_variants(collect([tmp_path / "runs"]).runs)


def test_the_gain_of_calibration_and_the_spread_over_templates(runs: tuple[RunRecord, ...]) -> None:
    table = prompt_table(arms_of(runs, "pydoc_kind"))
    assert table is not None
    assert table.notes[0] == "Calibration, where a row names none: contextual."
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    spread = ["60.0", "10.0", "50.0 to 70.0"]
    points = "50.0  60.0  70.0"
    assert rows == {
        "prompt, 3 templates": ["60.0", "50.0", "+10.0", points, *spread],
        "prompt, ensemble of 3 templates": ["65.0", "60.0", "+5.0", points, *spread],
        "prompt, prompt.calibration=none, ensemble of 3 templates": ["60.0", MISSING, MISSING, points, *spread],
    }


def test_an_ensemble_is_an_arm_of_its_own_beside_single_templates(runs: tuple[RunRecord, ...]) -> None:
    arms = [arm for arm in arms_of(runs, "pydoc_kind") if arm.method == "prompt"]
    assert sorted(len(arm.runs) for arm in arms) == [1, 1, 3]
    table = method_table(arms)
    assert table is not None
    assert "prompt, ensemble of 3 templates: 50.0 to 70.0, a spread over templates, no seeds." in table.notes
    ensemble = next(arm for arm in arms if arm.variant == "ensemble")
    assert templates_of(ensemble.runs[0]) == {f"template {number}": score for number, score in enumerate(SCORES)}


def test_one_template_has_no_spread_and_tasks_without_prompts_no_table(make_run: Make, tmp_path: Path) -> None:
    assert prompt_table([]) is None
    make_run("prompt", 0, variant="template 2", score="test/accuracy_pre", metrics={"test/accuracy_pre": 0.5})
    table = prompt_table(arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind"))
    assert table is not None
    first = [cell.text for cell in table.rows[0]]
    assert first == ["prompt, template 2", "50.0", MISSING, MISSING, "50.0", "50.0", MISSING, MISSING]


def test_the_page_holds_the_table(runs: tuple[RunRecord, ...], tmp_path: Path) -> None:
    made = report([tmp_path / "runs"], html=tmp_path / "page.html")
    assert "Prompts on pydoc_kind" in made.written[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "title"),
    [
        ("accuracy_uncalibrated", "accuracy, uncalibrated"),
        ("macro_f1_template_12", "macro F1, template 12"),
        ("f1_templates_sd", "F1, templates sd"),
        ("probe_x_uncalibrated", "probe x_uncalibrated"),
    ],
)
def test_metrics_of_prompts_have_words(what: str, title: str) -> None:
    metric = parse_metric(f"test/{what}_pre")
    assert (metric.what, metric.encoder, metric.title) == (what, "pre", title)
    assert not metric.lower_is_better
