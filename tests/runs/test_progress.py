"""Progress says how fast work goes, and work of an earlier process is not taken for this one's."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tofro.runs.progress import progress

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A function that sets the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, 100.0 + seconds)


def test_a_line_says_rate_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", "rows") as report:
        clock(0.5)
        report(0, 100)
        clock(3.0)
        report(50, 100)
    assert capsys.readouterr().err == "reading: 50/100 rows, 20 rows/s, 2 s left\n"


def test_what_was_done_before_does_not_count(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", "steps") as report:
        clock(1.0)
        report(9_000, 10_000)
        clock(11.0)
        report(9_100, 10_000)
    assert capsys.readouterr().err == "training: 9,100/10,000 steps, 10 steps/s, 90 s left\n"


def test_one_slow_unit_has_a_rate_too(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("measuring", "tasks") as report:
        clock(4.0)
        report(4, 8)
    assert capsys.readouterr().err == "measuring: 4/8 tasks, 1 tasks/s, 4 s left\n"


def test_quick_work_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", "rows") as report:
        clock(1.9)
        report(50, 100)
    assert capsys.readouterr().err == ""
