"""Streams in reports: matrices are the probes of results, numbers those computed by hand, gaps are shown as gaps."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from tofro.measures.continual import backward_transfer, forgetting, forward_transfer
from tofro.reports.collect import Collection, collect
from tofro.reports.continual import Stream, mean_of, streams_of
from tofro.reports.layout import Table
from tofro.reports.report import report
from tofro.reports.stream_tables import stream_tables

TASKS = (("mood", "sst2"), ("question", "trec"), ("topic", "ag_news"))
BASE = {"sst2": 0.60, "trec": 0.50, "ag_news": 0.70}
METHODS = {"full": "full", "both ways": "two_way", "ema": "ema"}
Make = Callable[..., Path]


def scores(arm: str, seed: int) -> np.ndarray:
    """A made-up matrix (4, 3): a task rises by its own stage and sinks by later ones, more so under `full`."""
    matrix = np.tile(list(BASE.values()), (4, 1))
    loss = {"full": 0.05, "both ways": 0.01, "ema": 0.02}[arm] + 0.002 * (seed % 2)
    for stage in range(1, 4):
        matrix[stage] = matrix[stage - 1] - loss
        matrix[stage, stage - 1] = 0.85 + 0.001 * (seed % 3) - loss / 10
    return matrix


def losses(arm: str, seed: int) -> np.ndarray:
    """A made-up language (4,): it gets worse by every stage, most under `full`."""
    return 5 + np.arange(4) * {"full": 1.0, "both ways": 0.01, "ema": 0.02}[arm] * (1 + seed)


@pytest.fixture
def stream(make_run: Make, tmp_path: Path) -> Callable[..., Collection]:
    """Write the runs and the plan of a stream and collect them; ``ft`` says whether ft was probed at the last stage."""

    def write(seeds: int = 2, ft: bool = True, drop: str = "", **plan: Any) -> Collection:
        chains = []
        for arm, method in METHODS.items():
            goes_on = "ft" if method == "full" else "pre"
            for seed in range(seeds):
                matrix, names = scores(arm, seed), []
                for stage, (_, data) in enumerate(TASKS):
                    metrics = {"test/accuracy_ft": 0.8 + 0.01 * stage}
                    for column, (_, probed) in enumerate(TASKS):
                        before, after = matrix[stage, column], matrix[stage + 1, column]
                        metrics[f"test/probe_{probed}_start"] = before
                        metrics[f"test/probe_{probed}_pre"] = before if goes_on == "ft" else after
                        if goes_on == "ft" and ft:
                            metrics[f"test/probe_{probed}_ft"] = after
                    metrics["validation/mlm_loss_start"] = losses(arm, seed)[stage]
                    metrics["validation/mlm_loss_pre"] = losses(arm, seed)[stage + (goes_on == "pre")]
                    if goes_on == "ft" and ft:
                        metrics["validation/mlm_loss_ft"] = losses(arm, seed)[stage + 1]
                    start = "0a1b2c3d" if stage == 0 else f"{arm[:2]}{seed}{stage}"
                    folder = make_run(method, seed, task=data, metrics=metrics, variant=arm, lineage={"init_from": start})
                    names.append(folder.name)
                    if f"{arm} {seed} {stage}" == drop:
                        (folder / "result.json").unlink()
                chains.append({"arm": arm, "start": "run:0a1b2c3d", "seed": seed, "goes_on": None, "runs": names})
        for seed, value in ((0, 0.30), (1, 0.40)):
            for _, data in TASKS:
                folder = make_run("random_encoder", seed, task=data, score=None, metrics={f"test/probe_{data}_random": value})
        runs = [path.name for path in sorted(folder.parent.iterdir())]
        tasks = [{"name": name, "data": data} for name, data in TASKS]
        entry = {"stage": "line", "tasks": tasks, "chains": chains} | plan
        (folder.parent / "study.json").write_text(json.dumps({"title": "S", "runs": runs, "streams": [entry]}))
        return collect([folder.parent])

    return write


def only(collection: Collection) -> Stream:
    (found,) = streams_of(collection)
    return found


def cells(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def named(collection: Collection, ending: str) -> Table:
    return next(table for table in stream_tables(collection) if table.name.endswith(ending))


def test_a_matrix_is_what_the_runs_probed(stream: Callable[..., Collection]) -> None:
    found = only(stream())
    assert found.tasks == ("mood", "question", "topic")
    for arm in found.arms:
        for line in arm.lines:
            assert line.matrix == pytest.approx(scores(arm.name, line.seed))
            assert line.baseline == pytest.approx([0.3 if line.seed == 0 else 0.4] * 3)
            assert line.trained == pytest.approx([0.80, 0.81, 0.82])
            assert line.language == pytest.approx(losses(arm.name, line.seed))
        assert arm.mean == pytest.approx((scores(arm.name, 0) + scores(arm.name, 1)) / 2)
    assert [sorted(line.encoders) for arm in found.arms for line in arm.lines] == [["ft"]] * 2 + [["pre"]] * 4


def test_the_tables_hold_the_numbers_of_the_matrix(stream: Callable[..., Collection]) -> None:
    collection = stream()
    matrix = named(collection, "matrix-0-full")
    assert [row[0] for row in cells(matrix)] == ["pretrained", "after mood", "after question", "after topic"]
    assert cells(matrix)[0][1:] == ["60.0", "50.0", "70.0"]
    assert matrix.rows[3][1].number == pytest.approx(np.mean([scores("full", seed)[3, 0] for seed in (0, 1)]))
    rows = {(row[0].text, row[1].text): row for row in named(collection, "transfer").rows}
    for arm in METHODS:
        matrices = [scores(arm, seed) for seed in (0, 1)]
        expected = {
            "average at the end": [matrix[-1].mean() for matrix in matrices],
            "backward transfer": [backward_transfer(matrix) for matrix in matrices],
            "forward transfer, over pretraining": [forward_transfer(matrix) for matrix in matrices],
            "forward transfer, over a random encoder": [
                forward_transfer(matrix, [floor] * 3) for matrix, floor in zip(matrices, (0.3, 0.4), strict=True)
            ],
            "forgetting": [forgetting(matrix) for matrix in matrices],
        }
        for name, values in expected.items():
            row = rows[arm, name]
            assert row[2].number == pytest.approx(np.mean(values))
            assert [part.number for part in row[3].parts] == pytest.approx(values)
            assert not row[2].bold
    against = {(row[0].text, row[1].text): row for row in named(collection, "differences").rows}
    assert {arm for arm, _ in against} == {"both ways", "ema"}
    difference = [backward_transfer(scores("ema", seed)) - backward_transfer(scores("full", seed)) for seed in (0, 1)]
    assert [part.number for part in against["ema", "backward transfer"][3].parts] == pytest.approx(difference)
    assert cells(named(collection, "trained"))[0] == ["full", "80.0", "81.0", "82.0"]
    assert cells(named(collection, "language"))[:2] == [
        ["full", "5.000", "6.500", "8.000", "9.500", "+4.500", "+3.000  +6.000", "–"],
        ["both ways", "5.000", "5.015", "5.030", "5.045", "+0.045", "+0.030  +0.060", "–"],
    ]


def test_below_eight_chains_there_is_no_interval(stream: Callable[..., Collection]) -> None:
    collection = stream(7)
    assert all(row[4].text == "–" for row in named(collection, "transfer").rows)
    assert "No interval" in " ".join(named(collection, "transfer").notes)


def test_from_eight_chains_on_there_are_intervals_and_tests(stream: Callable[..., Collection]) -> None:
    collection = stream(8)
    transfer = {(row[0].text, row[1].text): row for row in named(collection, "transfer").rows}
    assert transfer["full", "backward transfer"][2].bold
    values = [backward_transfer(scores("full", seed)) for seed in range(8)]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert transfer["full", "backward transfer"][4].text == f"{100 * low:.1f} to {100 * high:.1f}".replace("-", "−")
    assert not transfer["full", "average at the end"][2].bold  # no difference: nothing to tell from 0
    full = named(collection, "language").rows[0]
    assert [full[5].text, full[5].bold] == ["+13.500", True]
    low, high = stats.ttest_1samp([losses("full", seed)[3] - 5 for seed in range(8)], 0).confidence_interval(0.95)
    assert full[7].text == f"+{low:.3f} to +{high:.3f}"
    against = {(row[0].text, row[1].text): row for row in named(collection, "differences").rows}
    assert against["both ways", "forgetting"][2].number < 0  # type: ignore[operator]
    assert against["both ways", "forgetting"][6].number < 0.05  # type: ignore[operator]
    assert against["both ways", "backward transfer"][6].number < 0.05  # type: ignore[operator]


def test_what_was_not_measured_is_a_gap(stream: Callable[..., Collection]) -> None:
    collection = stream(ft=False)
    matrix = named(collection, "matrix-0-full")
    assert cells(matrix)[3] == ["after topic", "–", "–", "–"]
    assert cells(matrix)[2][1] != "–"  # the next run's start says it
    assert "3 of 12 entries are not measured" in matrix.notes[1]
    measured = {(row[0].text, row[1].text) for row in named(collection, "transfer").rows}
    assert ("full", "backward transfer") not in measured
    assert ("full", "forward transfer, over pretraining") in measured
    assert ("ema", "backward transfer") in measured
    assert cells(named(collection, "language"))[0] == ["full", "5.000", "6.500", "8.000", "–", "–", "–", "–"]


def test_an_unfinished_stage_leaves_its_chain_short(stream: Callable[..., Collection]) -> None:
    found = only(stream(drop="both ways 1 2"))
    whole, short = next(arm for arm in found.arms if arm.name == "both ways").lines
    assert not np.isnan(whole.matrix).any()
    assert np.isnan(short.matrix[3]).all()
    assert short.matrix[:3] == pytest.approx(scores("both ways", 1)[:3])  # the stage's own probes of what it left
    assert math.isnan(short.trained[2])
    assert short.last.task == "trec"


def test_later_stages_stand_in_the_streams_tables_alone(stream: Callable[..., Collection]) -> None:
    collection = stream()
    assert [run.task for run in collection.runs if run.streamed and run.method == "full"].count("sst2") == 0
    made = report([collection.studies[0].folder], console=Console(quiet=True))
    names = [table.name for table in made.tables]
    assert "methods-sst2" in names
    assert len([name for name in names if name.startswith("stream_line_")]) == 7
    shown = [row[0].text for table in made.tables if table.name == "methods-trec" for row in table.rows]
    assert not any(label.startswith(("full", "two_way", "ema")) for label in shown)  # the floors of trec alone


def test_every_written_form_holds_the_stream(stream: Callable[..., Collection], tmp_path: Path) -> None:
    folder = stream().studies[0].folder
    console = Console(file=io.StringIO(), width=200)
    files = {kind: tmp_path / name for kind, name in (("html", "r.html"), ("latex", "t.tex"), ("markdown", "t.md"))}
    report([folder], **files, csv=tmp_path / "tables", console=console)
    for text in (console.file.getvalue(), *(path.read_text(encoding="utf-8") for path in files.values())):  # type: ignore[attr-defined]
        assert "Stream line: transfer and forgetting" in text
        assert "backward transfer" in text
        assert "after question" in text
    page = files["html"].read_text(encoding="utf-8")
    assert ">Stream line</h2>" in page
    assert 'aria-label="Stream line"' in page
    assert "Outlined: the stage" in page
    written = (tmp_path / "tables" / "stream_line_matrix-1-both-ways.csv").read_text(encoding="utf-8")
    assert written.splitlines()[0] == "stage,mood,question,topic"


@pytest.mark.parametrize("change", [{"chains": [{"arm": "a"}]}, {"tasks": [{"name": "a"}]}, {"tasks": [], "stage": "x"}])
def test_a_malformed_plan_is_named(stream: Callable[..., Collection], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"study\.json: `streams`"):
        stream(**change)


def test_means_pass_over_gaps() -> None:
    mean = mean_of([np.array([1.0, np.nan, np.nan]), np.array([3.0, 5.0, np.nan])])
    assert mean[:2] == pytest.approx([2.0, 5.0])
    assert np.isnan(mean[2])
