"""Reading run folders: nothing dropped in silence, nothing malformed accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tofro.reports.collect import collect, read_curves, read_run


def test_a_study_is_read_in_plan_order_with_its_head(study: Path) -> None:
    collection = collect([study])
    plan = json.loads((study / "study.json").read_text())
    assert [run.name for run in collection.runs] == plan["runs"]
    assert collection.studies[0].title == "Quickstart"
    assert collection.studies[0].command.startswith("tofro study")
    assert not collection.unfinished
    assert not collection.notes


def test_a_run_met_twice_counts_once(study: Path) -> None:
    one = next(path for path in study.iterdir() if path.is_dir())
    assert len(collect([study, one, study]).runs) == len(collect([study]).runs)
    assert len(collect([study.parent]).runs) == len(collect([study]).runs)


def test_unfinished_planned_and_unplanned_runs_are_named(study: Path, make_run: Callable[..., Path]) -> None:
    plan = json.loads((study / "study.json").read_text())
    (study / plan["runs"][1] / "result.json").unlink()
    outside = make_run("ema", 4)
    plan["runs"] += ["two_way-pydoc_kind-s7-0123abcd", str(outside)]
    (study / "study.json").write_text(json.dumps(plan))
    stranger = study / "full-sst2-s0-00000000"
    stranger.mkdir()
    (stranger / "config.yaml").write_text("")
    collection = collect([study])
    missing = [(run.method, run.task, run.seed, run.id) for run in collection.unfinished]
    assert missing == [("full", "pydoc_kind", 0, plan["runs"][1][-8:]), ("two_way", "pydoc_kind", 7, "0123abcd")]
    assert collection.runs[-1].folder == outside
    assert "full-sst2-s0-00000000" in collection.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "0a", "method"', "truncated"),
        ("[]", "object"),
        ('{"id": "0a", "method": "full", "metrics": {}}', "seed"),
        ('{"id": "0a", "method": "full", "seed": 0, "metrics": {"test/accuracy_ft": "high"}}', "no number"),
    ],
)
def test_a_malformed_result_is_named(make_run: Callable[..., Path], text: str, words: str) -> None:
    folder = make_run("full", 0)
    (folder / "result.json").write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        collect([folder])
    assert str(folder / "result.json") in str(raised.value)


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="holds no run"):
        collect([tmp_path])


def test_null_metrics_are_not_measured(make_run: Callable[..., Path]) -> None:
    assert read_run(make_run("full", 0, metrics={"test/accuracy_ft": None})).metrics == {}


def test_curves_and_a_torn_last_line(make_run: Callable[..., Path]) -> None:
    folder = make_run("full", 0)
    rows = '{"step": 1, "seconds": 0.5, "train/loss": 2.0}\n{"step": 2, "seconds": 1.0, "train/loss": 1.0}\n'
    (folder / "metrics.jsonl").write_text(rows + '{"step": 3, "sec')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:3"):
        read_curves(read_run(folder))
    (folder / "result.json").unlink()
    curve = read_curves(read_run(folder))["train/loss"]
    assert curve.steps.tolist() == [1, 2]
    assert curve.seconds.tolist() == [0.5, 1.0]
    assert curve.values.tolist() == [2.0, 1.0]
