"""Jobs of a study: what starts from a run waits for it, what failed takes with it only what needs it, and each is told once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tofro.config.identity import Identity
from tofro.runs import jobs as working
from tofro.runs.folder import Held
from tofro.runs.jobs import DONE, FAILED, HELD, Ending, Jobs, attempt
from tofro.runs.planning import Planned


def planned(name: str, *starts: str) -> Planned:
    """Return a run that starts from the folders ``starts``."""
    config = {"init_from": None, "init_from_ft": None}
    config |= {key: f"/outputs/study/{start}" for key, start in zip(config, starts, strict=False)}
    return Planned("stage", (name,), config, Identity("0", name, {}), Path("/outputs/study") / name)


def jobs(*runs: Planned, seconds: float | None = None, workers: int = 1) -> Jobs:
    return Jobs(runs, Path("/outputs/study"), {run.folder: seconds for run in runs}, workers)


def test_a_run_waits_for_what_it_starts_from() -> None:
    first, second, third = planned("a"), planned("b", "a"), planned("c", "a/models/ft", "b")
    todo = jobs(first, second, third)
    assert todo.take() is first
    assert todo.take() is None
    todo.end(first, Ending(DONE))
    assert todo.take() is second
    assert todo.take() is None
    todo.end(second, Ending(DONE))
    assert todo.take() is third
    todo.end(third, Ending(DONE))
    assert not todo.open
    assert (todo.made, todo.failed) == (3, 0)


def test_a_start_that_is_not_among_the_jobs_is_there() -> None:
    alone = planned("b", "finished")
    assert jobs(alone).take() is alone


def test_a_failure_takes_with_it_what_starts_from_it_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third, other = planned("a"), planned("b", "a"), planned("c", "b"), planned("d")
    todo = jobs(first, second, third, other)
    assert todo.take() is first
    todo.end(first, Ending(FAILED, "no such file"))
    assert todo.take() is other
    todo.end(other, Ending(DONE))
    assert todo.take() is None
    assert not todo.open
    assert (todo.made, todo.failed) == (1, 3)
    err = capsys.readouterr().err
    assert "[1/4] a\n  failed: no such file" in err
    assert "[2/4] b\n  failed: starts from a, which failed" in err
    assert "[3/4] c\n  failed: starts from b, which failed" in err


def test_a_run_that_another_process_makes_is_looked_at_again(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, other = planned("a"), planned("b", "a"), planned("c")
    todo = jobs(first, second, other)
    todo.retry_after = 0.02
    assert todo.take() is first
    todo.end(first, Ending(HELD))
    assert todo.take() is other  # the others go on
    assert todo.take() is None
    assert todo.open
    assert todo.pause is not None
    assert todo.pause <= 0.05
    time.sleep(0.03)
    assert todo.take() is first
    todo.end(first, Ending(HELD))
    time.sleep(0.03)
    assert todo.take() is first
    todo.end(first, Ending(DONE))
    assert todo.take() is second
    assert capsys.readouterr().err.count("another process is making it") == 1


def test_each_line_says_how_long_it_took_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [planned("a"), planned("b"), planned("c", "b"), planned("d")]
    todo = jobs(*runs, seconds=600.0, workers=2)
    first = todo.take()
    assert first is not None
    todo.end(first, Ending(DONE))
    line = capsys.readouterr().err
    assert line.startswith("[1/4] a: 0.0 s; ")
    assert line.endswith("runs/min, 20 min 0 s left\n")  # c waits for b, which has not begun
    last = jobs(planned("a"))
    only = last.take()
    assert only is not None
    last.end(only, Ending(DONE))
    assert capsys.readouterr().err == "[1/1] a: 0.0 s\n"


def test_an_attempt_ends_in_one_of_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: BaseException | None) -> Any:
        def run(config: Any, overrides: list[str]) -> None:
            if error is not None:
                raise error

        return run

    for error, ending in (
        (None, Ending(DONE)),
        (Held("at work"), Ending(HELD, "at work")),
    ):
        monkeypatch.setattr(working, "run", failing(error))
        assert attempt(["method=tfidf"]) == ending
    monkeypatch.setattr(working, "run", failing(RuntimeError("a bug")))
    assert "Traceback" in attempt(["method=tfidf"]).text
    assert "did you mean seed" in attempt(["sede=1"]).text
    assert "Traceback" not in attempt(["sede=1"]).text
    monkeypatch.setattr(working, "run", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        attempt(["method=tfidf"])
