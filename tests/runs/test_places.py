"""One run, one folder, whichever study made it: a pretraining that two studies share is made once, and reports find it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.runs import stand_in
from tests.runs.conftest import WriteStudy
from tofro.config.compose import compose
from tofro.reports.collect import collect
from tofro.runs import run as running
from tofro.runs.run import run
from tofro.runs.study import Planned, plan, read_study, run_study


@pytest.fixture(autouse=True)
def computing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_carry_out", stand_in.carry_out)


def planned(folder: Path) -> list[Planned]:
    return plan(read_study(folder), [])


def test_a_run_that_another_study_made_is_used(write_study: WriteStudy, capfd: pytest.CaptureFixture[str]) -> None:
    one, two = write_study("one"), write_study("two")
    before = planned(two)
    assert run_study(one, [])[1:] == (0, 3)
    assert run_study(two, [])[1:] == (0, 0)
    after = planned(two)
    assert [run.identity for run in after] == [run.identity for run in before]
    assert all(run.folder.parent.name == "one" for run in after)
    place = one.parent / "outputs" / "two"
    listed = json.loads((place / "study.json").read_text(encoding="utf-8"))["runs"]
    assert listed == [f"../one/{run.identity.name}" for run in after]
    found = collect([place])
    assert [record.folder.resolve() for record in found.runs] == [run.folder for run in after]
    assert not found.unfinished
    assert run_study(two, [], dry_run=True)[1:] == (0, 0)
    assert f"done  adapt     ../one/{after[1].identity.name}" in capfd.readouterr().out


def test_later_stages_start_from_where_the_run_lies(write_study: WriteStudy, small: list[str]) -> None:
    overrides = [*small, "method=pretrain", "budget.steps=6"]
    alone = run(compose(overrides), overrides)
    folder = write_study()
    start, first, _ = planned(folder)
    assert start.folder == alone.folder
    assert start.folder.parent.name == "runs"
    assert first.config.init_from == str(alone.folder)
    assert first.folder.parent.name == "small_study"
    assert run_study(folder, [])[1:] == (0, 2)
    shutil.rmtree(alone.folder)  # now the study makes it itself, under the same identity
    again, same, _ = planned(folder)
    assert again.folder.parent.name == "small_study"
    assert same.identity == first.identity
    assert same.state() == "done"


def test_a_run_that_was_begun_elsewhere_is_gone_on_with_there(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = write_study("one"), write_study("two")

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "_carry_out", killed)
        with pytest.raises(KeyboardInterrupt):
            run_study(one, [])
    start, *_ = planned(two)
    assert (start.folder.parent.name, start.state()) == ("one", "begun")
    assert run_study(two, [])[1:] == (0, 3)
    assert run_study(one, [])[1:] == (0, 0)
    assert all(run.folder.parent.name == name for run, name in zip(planned(one), ["one", "two", "two"], strict=True))


def test_another_run_of_the_same_name_is_not_taken(write_study: WriteStudy) -> None:
    one, two = write_study("one"), write_study("two")
    assert run_study(one, [])[1:] == (0, 3)
    for run_folder in (one.parent / "outputs" / "one").glob("*-s*"):
        (run_folder / "identity.json").write_text('{"seed": 9}', encoding="utf-8")
    assert all(run.folder.parent.name == "two" for run in planned(two))
