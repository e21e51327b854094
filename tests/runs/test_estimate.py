"""What a study will take is told from finished runs like its own: method, data, encoder and budget count, the seed does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import stand_in
from tests.runs.conftest import STAGES, WriteStudy
from tofro.runs import estimate as estimating
from tofro.runs import run as running
from tofro.runs.estimate import Costs, Estimate, estimate, spell
from tofro.runs.folder import read_result, write_json
from tofro.runs.study import plan, read_study, run_study


@pytest.fixture(autouse=True)
def computing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_carry_out", stand_in.carry_out)


def took(folder: Path, seconds: float) -> None:
    """Let a finished run have taken so long."""
    result = read_result(folder)
    assert result is not None
    write_json(folder / "result.json", result | {"cost": {"seconds": seconds}})


def test_runs_alike_are_told_from_each_other(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write_study("one")
    assert run_study(one, []).failed == 0
    start, first, second = plan(read_study(one), [])
    for run, seconds in ((start, 40.0), (first, 10.0), (second, 20.0)):
        took(run.folder, seconds)
    costs = Costs(one.parent / "outputs")

    def of(*overrides: str) -> list[float | None]:
        grid = {"method": ["full"], "seed": [7]}
        other = write_study("other", stages=STAGES | {"adapt": STAGES["adapt"] | {"grid": grid}})
        return [costs.of(run) for run in plan(read_study(other), list(overrides))]

    assert of() == [40.0, 15.0]
    assert of("optimizer.lr=1e-4") == [40.0, 15.0]
    assert of("budget.batch=16") == [None, None]
    assert of("task.train_rows=50") == [40.0, None]
    assert of("encoder.layers=3") == [None, None]  # the encoder is that of the start
    assert of("budget.steps=null", "budget.minutes=2") == [120.0, 120.0]
    monkeypatch.setattr(estimating, "machine", lambda: {"cpu": "another"})
    assert Costs(one.parent / "outputs").of(second) == 15.0  # better than nothing


def test_this_machine_counts_before_others(write_study: WriteStudy) -> None:
    one = write_study("one")
    assert run_study(one, []).failed == 0
    _, first, second = plan(read_study(one), [])
    took(first.folder, 10.0)
    result = read_result(second.folder)
    assert result is not None
    write_json(second.folder / "result.json", result | {"cost": {"seconds": 90.0}, "machine": {"cpu": "another"}})
    assert Costs(one.parent / "outputs").of(second) == 10.0


def test_a_result_that_cannot_be_read_is_passed_over(write_study: WriteStudy) -> None:
    one = write_study("one")
    assert run_study(one, []).failed == 0
    for path, text in zip((one.parent / "outputs" / "one").glob("*/result.json"), ("{", "[]", '{"id": "x"}'), strict=True):
        path.write_text(text, encoding="utf-8")
    assert Costs(one.parent / "outputs").of(plan(read_study(one), [])[0]) is None


def test_the_clock_goes_by_workers_and_by_the_longest_chain(write_study: WriteStudy) -> None:
    runs = plan(read_study(write_study()), [])
    seconds = dict(zip([run.folder for run in runs], (60.0, 30.0, 30.0), strict=True))
    assert estimate(runs, seconds, 1) == Estimate(120.0, 0, 120.0)
    assert estimate(runs, seconds, 2) == Estimate(120.0, 0, 90.0)
    assert estimate(runs[1:], seconds, 2) == Estimate(60.0, 0, 30.0)
    assert estimate(runs, seconds | {runs[1].folder: None}, 2) == Estimate(90.0, 1, 90.0)
    assert str(Estimate(90.0, 1, 90.0)) == "about 1 min 30 s of work, 1 min 30 s on the clock, and 1 runs of unknown cost"
    assert str(Estimate(0.0, 3, 0.0)) == "cost unknown"


def test_the_plan_says_what_it_will_cost(write_study: WriteStudy, capfd: pytest.CaptureFixture[str]) -> None:
    one = write_study("one")
    assert run_study(one, []).failed == 0
    for run in plan(read_study(one), []):
        took(run.folder, 30.0)
    more = STAGES | {"adapt": STAGES["adapt"] | {"grid": {"method": ["full", "partial"], "seed": [0, 5]}}}
    folder = write_study("one", stages=more)
    capfd.readouterr()
    assert run_study(folder, ["launcher.workers=2"], dry_run=True)[1:] == (0, 0)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["done", "done", "to", "to", "to", "to"]
    assert "~ 30 s  from pretrain-" in lines[2]
    assert "unknown  from pretrain-" in lines[3]
    assert lines[-1] == "to do: about 30 s of work, 30 s on the clock, and 2 runs of unknown cost"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (184, "3 min 4 s"),
        (3599.8, "1 h 0 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert spell(seconds) == words
