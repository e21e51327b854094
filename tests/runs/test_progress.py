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


@pytest.mark.parametrize(
    ("first", "then", "line"),
    [
        ((0.5, 0), (3.0, 50), "50/100 units, 20 units/s, 2 s left"),
        ((1.0, 40), (11.0, 90), "90/100 units, 5 units/s, 2 s left"),  # 40 were done before, and count for nothing
        (None, (4.0, 20), "20/100 units, 5 units/s, 16 s left"),  # of one call alone the start is the beginning
    ],
)
def test_a_line_says_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str], first: tuple[float, int] | None, then: tuple[float, int], line: str
) -> None:
    with progress("work", "units") as report:
        for seconds, done in filter(None, (first, then)):
            clock(seconds)
            report(done, 100)
    assert capsys.readouterr().err == f"work: {line}\n"


def test_quick_work_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", "rows") as report:
        clock(1.9)
        report(50, 100)
    assert capsys.readouterr().err == ""
