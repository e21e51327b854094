"""A study: its file is checked, its plan known before anything runs; finished runs are skipped, a failed one stops no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runs.conftest import LONG, PROMPT, STAGES, Chain
from tofro.cli import DONE, MISTAKE, main
from tofro.runs import jobs
from tofro.runs.folder import read_result
from tofro.runs.run import identify
from tofro.runs.study import Planned, plan, read_study, run_study


def write(folder: Path, chain: Chain, **changes: Any) -> Path:
    """Write a study of the small world, with its own outputs folder, and return its folder."""
    place = folder / "small_study"
    place.mkdir(exist_ok=True)
    shared = [*chain.base, f"outputs_dir={folder / 'outputs'}"]
    content = {"title": "Small", "claim": "It runs.", "shared": shared, "stages": STAGES} | changes
    content = {key: value for key, value in content.items() if value is not None}
    (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return place


def planned(folder: Path, *overrides: str) -> list[Planned]:
    return plan(read_study(folder), list(overrides))


def test_the_plan_holds_every_run_in_order_and_each_floor_once(chain: Chain, tmp_path: Path) -> None:
    runs = planned(write(tmp_path, chain))
    assert [(run.stage, run.config.method.name, run.config.seed) for run in runs] == [
        ("pretrain", "pretrain", 0),
        ("adapt", "full", 0),
        ("adapt", "tfidf", 0),
        ("adapt", "random_encoder", 0),
        ("adapt", "full", 1),
        ("adapt", "random_encoder", 1),
    ]
    assert len({run.folder for run in runs}) == 6
    assert all(run.config.study == "small_study" and run.config.stage == run.stage for run in runs)
    assert not (tmp_path / "outputs" / "small_study").exists()  # nothing but fingerprints has been kept


def test_a_stage_has_any_name(chain: Chain, tmp_path: Path) -> None:
    name = "few rows, k's = {4}"
    runs = planned(write(tmp_path, chain, stages={"pretrain": STAGES["pretrain"], name: STAGES["adapt"]}))
    assert [run.config.stage for run in runs[1:]] == [name] * 5
    assert [run.folder for run in runs] == [run.folder for run in planned(write(tmp_path, chain))]


def test_a_stage_starts_from_the_run_that_its_config_makes(chain: Chain, tmp_path: Path) -> None:
    pretrain, full, tfidf, random_encoder, *_ = planned(write(tmp_path, chain))
    assert full.config.init_from == str(pretrain.folder)
    assert full.identity.full["init_from"] == f"run:{pretrain.identity.id}"
    assert random_encoder.config.init_from == str(pretrain.folder)
    assert tfidf.config.init_from is None  # it reads no encoder, and stands beside runs from any start
    # two starts, two sets of runs
    stages = {**STAGES, "pretrain": {**STAGES["pretrain"], "grid": {"seed": [0, 1]}}}
    runs = planned(write(tmp_path, chain, stages=stages, floors=False))
    assert [run.config.method.name for run in runs] == ["pretrain", "pretrain", "full", "full", "full", "full"]
    assert len({run.config.init_from for run in runs[2:]}) == 2


def test_the_plan_is_stable_and_overrides_change_it(chain: Chain, tmp_path: Path) -> None:
    folder = write(tmp_path, chain)
    names = [run.folder for run in planned(folder)]
    assert [run.folder for run in planned(folder)] == names
    assert [run.folder for run in planned(folder, "trainer.log_every=1")] == names
    longer = planned(folder, "budget.steps=5")
    assert all(run.config.budget.steps == 5 for run in longer)
    assert {run.folder for run in longer} & set(names) <= {run.folder for run in longer if run.config.method.name == "tfidf"}


def test_a_planned_identity_is_the_one_that_the_run_gets(chain: Chain, tmp_path: Path) -> None:
    """The pretrained run of the chain stands in for one that the study has made."""
    pretrain, full, *_ = planned(write(tmp_path, chain))
    pretrain.folder.mkdir(parents=True)
    (pretrain.folder / "result.json").write_text(json.dumps({"id": pretrain.identity.id}), encoding="utf-8")
    assert identify(full.config) == full.identity


def test_a_random_encoder_is_probed_as_the_runs_are_that_it_stands_beside(chain: Chain, tmp_path: Path) -> None:
    own = [*STAGES["adapt"].get("overrides", []), "method.probe_rows=40", "method.test_rows=20", "method.pooling=cls"]
    stages = {**STAGES, "adapt": {**STAGES["adapt"], "overrides": own}}
    runs = [run for run in planned(write(tmp_path, chain, stages=stages)) if run.config.init_from is not None]
    assert {run.config.method.name for run in runs} >= {"full", "random_encoder"}
    assert {(run.config.method.probe_rows, run.config.method.test_rows, run.config.method.pooling) for run in runs} == {
        (40, 20, "cls")
    }


def test_floors_can_be_left_out_and_null_can_be_swept(chain: Chain, tmp_path: Path) -> None:
    stages = {**STAGES, "adapt": {**STAGES["adapt"], "grid": {"method": ["full"], "budget.patience": [2, None]}}}
    runs = planned(write(tmp_path, chain, floors=False, stages=stages))
    assert [run.config.budget.patience for run in runs[1:]] == [2, None]


def test_a_study_that_is_stopped_has_every_arm_of_its_first_seeds(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {
        "pretrain": {**STAGES["pretrain"], "grid": {"seed": [7]}},
        "adapt": {**STAGES["adapt"], "grid": {"method": ["full", "two_way"], "seed": [0, 1]}},
    }
    folder, taken = write(tmp_path, chain, floors=False, stages=stages), []

    def carry_out(_: object, todo: jobs.Jobs) -> None:
        while (run := todo.take()) is not None:
            taken.append((run.config.method.name, run.config.seed))
            todo.end(run, jobs.Ending(jobs.DONE))

    monkeypatch.setattr("tofro.runs.study.build", carry_out)
    run_study(folder, [])
    assert taken == [("pretrain", 7), ("full", 0), ("two_way", 0), ("full", 1), ("two_way", 1)]


def changed(name: str, **keys: Any) -> dict[str, Any]:
    return {"stages": {**STAGES, name: {**STAGES[name], **keys}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"titel": "x"}, "unknown key titel; known are claim"),
        ({"title": None}, "needs a title and at least one stage"),
        ({"stages": {}}, "needs a title and at least one stage"),
        ({"stages": ["pretrain"]}, "stages must be a mapping"),
        ({"stages": {"pretrain": None}}, "stages.pretrain must be a mapping"),
        ({"shared": "method=full"}, "shared must be a list"),
        (changed("adapt", sede=[0]), "unknown key stages.adapt.sede"),
        (changed("adapt", overrides="method=full"), "stages.adapt.overrides must be a list"),
        (
            changed("adapt", init_from="pretrian"),
            "names 'pretrian', which is no stage: nobody makes these models; did you mean pretrain?",
        ),
        (changed("adapt", init_from="outputs/x"), "a folder is given as init_from=FOLDER under overrides"),
        (changed("pretrain", init_from="adapt"), "stages.pretrain.init_from: a cycle, pretrain from adapt from pretrain"),
        (changed("adapt", init_from="adapt"), "stages.adapt.init_from: a cycle, adapt from adapt"),
        ({"stages": dict(reversed(STAGES.items()))}, "names 'pretrain', which stands further down"),
        ({"shared": [1]}, "shared must be a list of overrides such as seed=1"),
        (changed("adapt", grid={"seed": 3}), "stages.adapt.grid.seed must be a list of values"),
        (changed("adapt", grid={"seed": []}), "stages.adapt.grid.seed must be a list of values"),
        (changed("adapt", grid={"sede": [3]}), "did you mean seed"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_runs(
    chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    folder = write(tmp_path, chain, **changes)
    assert main(["study", str(folder)]) == MISTAKE
    err = capsys.readouterr().err
    assert said in err
    assert "study.yaml: " in err
    assert not (tmp_path / "outputs" / "small_study").exists()


@pytest.mark.parametrize("content", [b"title: [", b"title: s\xfc\xdf", b"", b"- a"])
def test_a_file_that_is_no_study_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "study.yaml").write_bytes(content)
    assert main(["study", str(tmp_path)]) == MISTAKE
    assert f"{tmp_path}/study.yaml: " in capsys.readouterr().err
    assert main(["study", str(tmp_path / "none")]) == MISTAKE
    assert "there is no study file" in capsys.readouterr().err


def test_a_study_runs_once_and_then_only_reports(
    chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal folds labels
    folder, place = write(tmp_path, chain), tmp_path / "outputs" / "small_study"
    assert main(["study", str(folder), "--dry-run"]) == DONE
    out = capfd.readouterr().out
    assert out.split()[:3] == ["to", "do", "pretrain"]
    assert len(out.splitlines()) == 7
    assert out.splitlines()[-1] == "to do: cost unknown"
    assert not place.exists()

    assert main(["study", str(folder)]) == DONE
    out, err = capfd.readouterr()
    assert "6 runs, 0 finished, 6 to do" in err
    assert "random encoder" in out
    runs = planned(folder)
    results = [read_result(run.folder) for run in runs]
    assert [result and (result["id"], result["stage"]) for result in results] == [(run.identity.id, run.stage) for run in runs]
    assert results[1] is not None
    assert results[0] is not None
    assert results[1]["lineage"]["init_from"] == results[0]["id"]
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "Small" in page
    assert "It runs." in page
    noted = json.loads((place / "study.json").read_text(encoding="utf-8"))
    assert noted["runs"] == [run.folder.name for run in runs]

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr(jobs, "run", refuse)
    assert main(["study", str(folder)]) == DONE
    out_again, err = capfd.readouterr()
    assert "6 runs, 6 finished, 0 to do" in err
    assert out_again == out


def test_a_failing_run_stops_no_other_and_is_counted(
    chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"task.max_length": [128, 24, 32]}  # the encoder of the chain reads 64
    stages = {"ask": {"overrides": [*PROMPT, chain.start()], "grid": grid}}
    shared = [
        text for text in chain.base if text.split("=")[0].split(".")[0] not in ("encoder", "tokenizer", "objective", "budget")
    ]
    shared.append(f"outputs_dir={tmp_path / 'outputs'}")
    folder = write(tmp_path, chain, stages=stages, shared=shared)
    run = jobs.run

    def break_down(config: Any, overrides: list[str]) -> Any:
        if config.task.max_length == 24:
            raise RuntimeError("out of memory")
        return run(config, overrides)

    monkeypatch.setattr(jobs, "run", break_down)
    assert main(["study", str(folder)]) == MISTAKE
    out, err = capfd.readouterr()
    assert "failed: task.max_length=128" in err
    assert "RuntimeError: out of memory" in err
    assert [read_result(each.folder) is not None for each in planned(folder)] == [False, False, True]
    assert "prompt" in out
    assert run_study(folder, []).failed == 2
    monkeypatch.setattr(jobs, "run", run)
    assert run_study(folder, ["task.max_length=24"]).failed == 0


def test_a_multirun_goes_by_the_same_identities(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [chain.runs[method].folder for method in ("full", "partial")]
    before = [(folder / "result.json").stat().st_mtime_ns for folder in folders]
    assert main(["run", "-m", *chain.base, chain.start(), "method=full,partial", *LONG]) == DONE
    out = capsys.readouterr().out
    assert [line.partition(": ")[2] for line in out.splitlines() if line.startswith("finished before: ")] == list(
        map(str, folders)
    )
    assert [(folder / "result.json").stat().st_mtime_ns for folder in folders] == before
