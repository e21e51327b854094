"""What is wrong with a study is named, file and key, before anything runs; what is wrong with one run stops that one alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.runs import stand_in
from tests.runs.conftest import STAGES, WriteStudy
from tofro.cli import MISTAKE, main
from tofro.runs import run as running
from tofro.runs.folder import read_result
from tofro.runs.study import plan, read_study, run_study


@pytest.fixture
def computing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_carry_out", stand_in.carry_out)


def stages(**changes: Any) -> dict[str, Any]:
    """Return the small study's stages, some of them changed, None taken out."""
    return {name: stage for name, stage in (STAGES | changes).items() if stage is not None}


ADAPT = STAGES["adapt"]


@pytest.mark.parametrize(
    ("changed", "overrides", "said"),
    [
        (
            stages(adapt=ADAPT | {"overrides": ["budget.steps=4", "alignment.weight=0.3"]}),
            [],
            "study.yaml: stages.adapt.overrides: no run uses alignment.weight (method=full); leave alignment.weight=0.3 out",
        ),
        (
            stages(adapt=ADAPT | {"grid": ADAPT["grid"] | {"alignment/schedule": ["ramp", "cosine"]}}),
            [],
            "study.yaml: stages.adapt.grid.alignment/schedule: no run uses alignment/schedule",
        ),
        (
            stages(adapt=ADAPT | {"grid": ADAPT["grid"] | {"encoder.layers": [2, 3]}}),  # init_from answers for it
            [],
            "study.yaml: stages.adapt.grid.encoder.layers: no run uses encoder.layers",
        ),
        (stages(), ["alignment=supcon"], "the command line: no run uses alignment (method=pretrain, full)"),
        (stages(), ["study=mine"], "the command line: study is set by the study itself"),
        (
            stages(again={"init_from": "pretrain", "grid": {"seed": [1, 0]}, "overrides": ["method=full", "budget.steps=4"]}),
            [],
            "study.yaml: stages.adapt and stages.again make the same runs, such as full-",
        ),
        (
            stages(floor={"overrides": ["method=tfidf"]}, after={"init_from": "floor", "overrides": ["method=full"]}),
            [],
            "study.yaml: stages.after.init_from names 'floor', whose runs (method=tfidf) train nothing",
        ),
        (
            stages(adapt=ADAPT | {"init_from": None, "overrides": ["init_from=no/such/folder"]}),
            [],
            "study.yaml: stages.adapt: init_from=no/such/folder: no such folder",
        ),
        (
            stages(adapt=ADAPT | {"overrides": ["budget.steps=4", "launcher.workers=2"]}),
            [],
            "study.yaml: stages.adapt and stages.pretrain differ in launcher",
        ),
        (stages(), ["launcher.partition=long"], "no key launcher.partition in the chosen launcher"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(
    write_study: WriteStudy, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], overrides: list[str], said: str
) -> None:
    changed = {name: {key: value for key, value in stage.items() if value is not None} for name, stage in changed.items()}
    folder = write_study(stages=changed)
    assert main(["study", str(folder), *overrides]) == MISTAKE
    assert said in capsys.readouterr().err
    assert not (folder.parent / "outputs" / "small_study").exists()


def test_a_key_that_some_run_uses_is_fine(write_study: WriteStudy, small: list[str]) -> None:
    shared = [*small, "alignment.weight=0.3", "trainer.threads=1", "alignment/schedule=ramp"]
    both = stages(adapt=ADAPT | {"grid": {"method": ["full", "two_way", "tfidf"], "seed": [0]}})
    assert len(plan(read_study(write_study(shared=shared, stages=both)), ["budget.clip=2"])) == 4


def test_stages_may_share_some_runs_and_all_floors(write_study: WriteStudy) -> None:
    more = ADAPT | {"grid": {"method": ["full"], "seed": [0, 1, 2]}}
    runs = plan(read_study(write_study(stages=stages(more=more), floors=True)), [])
    names = [run.config.method.name for run in runs]
    assert (names.count("full"), names.count("tfidf"), names.count("random_encoder")) == (3, 1, 3)


@pytest.mark.usefixtures("computing_nothing")
def test_a_deleted_run_is_made_again_and_no_other(write_study: WriteStudy) -> None:
    folder = write_study()
    assert run_study(folder, [])[1:] == (0, 3)
    start, first, second = plan(read_study(folder), [])
    before = first.folder.stat().st_mtime_ns, (second.folder / "result.json").stat().st_mtime_ns
    shutil.rmtree(start.folder)
    assert run_study(folder, [])[1:] == (0, 1)
    assert (first.folder.stat().st_mtime_ns, (second.folder / "result.json").stat().st_mtime_ns) == before
    shutil.rmtree(first.folder)
    assert run_study(folder, [])[1:] == (0, 1)
    assert read_result(first.folder) is not None


@pytest.mark.usefixtures("computing_nothing")
@pytest.mark.parametrize("text", ['{"id": "0a", "meth', '{"metrics": {}}'])
def test_a_damaged_result_is_named_and_stops_its_run_alone(
    write_study: WriteStudy, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    folder = write_study(stages=stages(adapt=ADAPT | {"grid": {"method": ["full"], "seed": [0, 1, 2]}}))
    _, first, second, third = plan(read_study(folder), [])
    assert run_study(folder, [])[1:] == (0, 4)
    (first.folder / "result.json").write_text(text, encoding="utf-8")
    shutil.rmtree(second.folder)
    before = (third.folder / "result.json").stat().st_mtime_ns
    capfd.readouterr()
    assert main(["study", str(folder), "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert [line[:7].strip() for line in out.splitlines()[1:3]] == ["damaged", "to do"]
    assert run_study(folder, [])[1:] == (1, 1)
    err = capfd.readouterr().err
    assert f"failed: {first.folder / 'result.json'}: not " in err
    assert read_result(second.folder) is not None
    assert (third.folder / "result.json").stat().st_mtime_ns == before
    assert (first.folder / "result.json").read_text(encoding="utf-8") == text  # nothing of the user's is overwritten
    (first.folder / "result.json").unlink()
    assert run_study(folder, [])[1:] == (0, 1)


@pytest.mark.usefixtures("computing_nothing")
def test_a_damaged_start_takes_with_it_what_needs_it(write_study: WriteStudy, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_study(stages=stages(alone={"overrides": ["method=tfidf"]}))
    start, *_, alone = plan(read_study(folder), [])
    start.folder.mkdir(parents=True)
    (start.folder / "result.json").write_text("{", encoding="utf-8")
    assert run_study(folder, [])[1:] == (3, 1)
    err = capfd.readouterr().err
    assert err.count(f"failed: starts from {start.identity.name}, which failed") == 2
    assert read_result(alone.folder) is not None


def test_a_cycle_of_three_is_told_whole(write_study: WriteStudy) -> None:
    names = ["a", "b", "c"]
    circle = {name: {"init_from": names[place - 1], "overrides": ["method=full"]} for place, name in enumerate(names)}
    with pytest.raises(ValueError, match=r"stages\.a\.init_from: a cycle, a from c from b from a"):
        read_study(Path(write_study(stages=circle)))
