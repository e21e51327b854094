"""A stream: its plan is a chain of ordinary runs, a killed stage resumes, and its matrix is what the runs' results say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import BAD, GOOD, sentence
from tofro.cli import DONE, MISTAKE, main
from tofro.config.compose import compose
from tofro.measures import probes
from tofro.reports.collect import collect
from tofro.reports.continual import streams_of
from tofro.runs import jobs, streams, using
from tofro.runs.folder import read_result
from tofro.runs.planning import FLOORS
from tofro.runs.run import identify
from tofro.runs.study import Plan, lay_out, read_study, run_study
from tofro.text import pydoc
from tofro.text.fingerprint import hash_json
from tofro.text.task import Example

TASKS = {"kind": ["task=pydoc_kind"], "pydoc_match": None}
ARMS = {"full": ["method=full"], "both": ["method=two_way", "alignment.weight=0.1"]}
Write = Callable[..., Path]


@pytest.fixture
def write(small: list[str], tmp_path: Path) -> Write:
    """Write the study of a stream over two built-in tasks; keywords change its stage, ``study`` the file's own keys."""

    def write(study: dict[str, Any] | None = None, **stage: Any) -> Path:
        place = tmp_path / "small_stream"
        place.mkdir(exist_ok=True)
        shared = [text for text in small if not text.startswith(("task=", "task.path"))]
        stream = {
            "init_from": "pretrain",
            "overrides": ["budget.steps=2"],
            "stream": {"tasks": TASKS, "arms": ARMS},
            "grid": {"seed": [0]},
        } | stage
        stream = {key: value for key, value in stream.items() if value is not None}
        stages = {"pretrain": {"overrides": ["method=pretrain", "budget.steps=2"]}, "line": stream}
        content = {"title": "Small stream", "shared": shared, "floors": False, "stages": stages} | (study or {})
        (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return place

    return write


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the built-in tasks be small and hold sentences of the small world."""
    draw = random.Random(3)

    def rows(count: int, name: str) -> list[Example]:
        words = {"a": GOOD, "b": BAD}
        return [Example(f"{name} {n} {sentence(draw, words['ab'[n % 2]])}", None, "ab"[n % 2]) for n in range(count)]

    for build in (pydoc.build_kind, pydoc.build_match):
        made_from = hash_json([pydoc.fingerprint_pydoc(), build.__name__])
        splits = {name: rows(count, name) for name, count in (("train", 40), ("validation", 12), ("test", 20))}
        monkeypatch.setitem(pydoc._built, made_from, splits)
    using.built_in_task.cache_clear()
    yield
    using.built_in_task.cache_clear()


def laid_out(folder: Path, *overrides: str) -> Plan:
    return lay_out(read_study(folder), list(overrides))


def test_a_stream_is_planned_as_chains_of_runs(write: Write) -> None:
    plan = laid_out(write(grid={"seed": [0, 1]}))
    (stream,) = plan.streams
    assert stream.tasks == (("kind", "pydoc_kind"), ("pydoc_match", "pydoc_match"))
    assert [(chain.arm, chain.runs[0].config.seed) for chain in stream.chains] == [
        ("full", 0),
        ("both", 0),
        ("full", 1),
        ("both", 1),
    ]
    pretrain, *others = plan.runs
    assert others == [run for chain in stream.chains for run in chain.runs]
    for chain in stream.chains:
        first, second = chain.runs
        assert [run.config.task.name for run in chain.runs] == ["pydoc_kind", "pydoc_match"]
        assert first.config.init_from == str(pretrain.folder)
        assert second.config.init_from == str(first.folder)
        assert second.identity.full["init_from"] == f"run:{first.identity.id}"
        assert all(list(run.config.method.probes) == ["pydoc_kind", "pydoc_match"] for run in chain.runs)
        assert all(run.stage == run.config.stage == "line" for run in chain.runs)


def test_what_goes_on_can_be_chosen_and_the_plan_stays_true_to_the_runs(write: Write) -> None:
    arms = {"both": ["method=two_way"], "both, ft": {"overrides": ["method=two_way"], "goes_on": "ft"}}
    both, other = laid_out(write(stream={"tasks": TASKS, "arms": arms})).streams[0].chains
    assert both.runs[0] == other.runs[0]  # one run begins both chains
    first, second = other.runs
    assert second.config.init_from == str(first.folder / "models" / "ft")
    assert second.identity.full["init_from"] == f"run:{first.identity.id}/models/ft"
    (first.folder / "models" / "ft").mkdir(parents=True)
    (first.folder / "result.json").write_text(json.dumps({"id": first.identity.id}), encoding="utf-8")
    assert identify(second.config) == second.identity


def test_floors_stand_beside_every_task_and_a_later_stage_starts_from_the_ends(write: Write) -> None:
    folder = write({"floors": True})
    file = folder / "study.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["stages"]["after"] = {"init_from": "line", "overrides": ["method=full", "task=pydoc_package"]}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    plan = laid_out(folder)
    beside = [(run.config.method.name, run.config.task.name) for run in plan.runs if run.config.method.name in FLOORS]
    assert sorted(beside[:4]) == sorted((floor, task) for floor in FLOORS for task in ("pydoc_kind", "pydoc_match"))
    ends = [chain.runs[-1].folder for chain in plan.streams[0].chains]
    after = [run for run in plan.runs if run.stage == "after" and run.config.method.name == "full"]
    assert [run.config.init_from for run in after] == list(map(str, ends))


def test_planning_a_stream_needs_no_torch(write: Write) -> None:
    code = (
        "import sys; from pathlib import Path; from tofro.runs.study import plan, read_study\n"
        f"plan(read_study(Path({str(write())!r})), []); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_rows_of_a_probe_are_those_that_the_plan_supposes() -> None:
    assert streams.PROBE_ROWS == probes.ROWS


def test_a_task_may_validate_on_fewer_rows_where_probes_are_scored_on_test(write: Write) -> None:
    runs = laid_out(write(overrides=["task.validation_rows=9"])).streams[0].chains[0].runs
    assert {run.config.task.validation_rows for run in runs} == {9}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stream": {"tasks": TASKS}}, "stages.line.stream needs the keys tasks and arms"),
        ({"stream": {"tasks": {"kind": ["task=pydoc_kind"]}, "arms": ARMS}}, "two tasks or more"),
        ({"stream": {"tasks": TASKS | {"kind": "task=pydoc_kind"}, "arms": ARMS}}, "tasks.kind must be a list of overrides"),
        ({"stream": {"tasks": TASKS, "arms": {"full": "method=full"}}}, "arms.full must be a list of overrides"),
        ({"stream": {"tasks": TASKS, "arms": {"a": {"overrides": [], "goes_no": "ft"}}}}, "not goes_no"),
        ({"stream": {"tasks": TASKS, "arms": {"a": {"overrides": [], "goes_on": "both"}}}}, "goes_on must be pre or ft"),
        ({"init_from": None}, "needs init_from: stage 0"),
        ({"stream": {"tasks": TASKS | {"again": ["task=pydoc_kind"]}, "arms": ARMS}}, "two tasks are called pydoc_kind"),
        ({"overrides": ["task.train_rows=50"]}, "task.train_rows=50 would hold for pydoc_kind in its own stage alone"),
        ({"overrides": ["task.validation_rows=9", "method.split=validation"]}, "task.validation_rows=9 would hold"),
        (
            {"stream": {"tasks": TASKS | {"kind": ["task=pydoc_kind", "task.metric=macro_f1"]}, "arms": ARMS}},
            "task.metric=macro_f1",
        ),
        ({"stream": {"tasks": TASKS | {"kind": ["task=pydoc_kind", "task.max_length=16"]}, "arms": ARMS}}, "is 16 and 32"),
        ({"stream": {"tasks": TASKS | {"kind": ["task=pydoc_kind", "task.name=x"]}, "arms": ARMS}}, "x is no task of conf/task"),
        (
            {"stream": {"tasks": TASKS | {"file": ["task=file", "task.path=study.yaml", "task.name=x"]}, "arms": ARMS}},
            "task.name=x would hold",
        ),
    ],
)
def test_a_mistake_in_a_stream_is_named(
    write: Write, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    folder = write(**changes)
    assert main(["study", str(folder)]) == MISTAKE
    err = capsys.readouterr().err
    assert said in err
    assert "study.yaml" in err
    assert not (folder.parent / "outputs" / "small_stream").exists()


def test_tasks_with_a_path_are_probed_by_their_path(write: Write, world: Path) -> None:
    tasks = {"mood": ["task=file", f"task.path={world / 'task.jsonl'}"], "kind": ["task=pydoc_kind"]}
    folder = write(stream={"tasks": tasks, "arms": ARMS})
    if "tasks" not in compose([]).method:
        with pytest.raises(ValueError, match=r"task is read from a path, and method\.tasks"):
            laid_out(folder)
        return
    (stream,) = laid_out(folder).streams
    assert stream.tasks == (("mood", "task"), ("kind", "pydoc_kind"))
    first, second = stream.chains[0].runs
    assert list(first.config.method.tasks) == []
    assert list(second.config.method.tasks) == [str(world / "task.jsonl")]


@pytest.mark.usefixtures("few_rows")
def test_a_killed_stage_goes_on_and_the_matrix_is_what_the_results_say(
    write: Write, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write()
    place = folder.parent / "outputs" / "small_stream"
    run, begun = jobs.run, []

    def killed(config: Any, overrides: list[str]) -> Any:
        begun.append(config)
        if len(begun) == 4:  # the first stage of the second arm
            raise KeyboardInterrupt
        return run(config, overrides)

    monkeypatch.setattr(jobs, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(folder, [])
    plan = laid_out(folder)
    finished = [each for each in plan.runs if read_result(each.folder) is not None]
    assert finished == list(plan.runs[:3])
    before = [(each.folder / "result.json").stat().st_mtime_ns for each in finished]

    monkeypatch.setattr(jobs, "run", run)
    assert main(["study", str(folder)]) == DONE
    _, err = capfd.readouterr()
    assert "5 runs, 3 finished, 2 to do" in err
    assert [(each.folder / "result.json").stat().st_mtime_ns for each in finished] == before
    assert all(read_result(each.folder) is not None for each in plan.runs)
    # what a stage left of `pre` and what the next one started from are one encoder
    first, second = (read_result(each.folder) for each in plan.streams[0].chains[1].runs)
    assert first is not None
    assert second is not None
    for task in ("pydoc_kind", "pydoc_match"):
        assert first["metrics"][f"test/probe_{task}_pre"] == second["metrics"][f"test/probe_{task}_start"]
    full, both = streams_of(collect([place]))[0].arms
    for stage, each in enumerate((first, second)):
        for column, task in enumerate(("pydoc_kind", "pydoc_match")):
            assert both.lines[0].matrix[stage, column] == each["metrics"][f"test/probe_{task}_start"]
            assert both.lines[0].matrix[stage + 1, column] == each["metrics"][f"test/probe_{task}_pre"]
    measured = ~np.isnan(full.lines[0].matrix)
    assert measured[:2].all()
    assert measured[2].all() == ("measure_ft" in compose([]).method)  # of the last stage's ft
    assert json.loads((place / "study.json").read_text(encoding="utf-8"))["streams"] == [plan.streams[0].as_json(place)]
