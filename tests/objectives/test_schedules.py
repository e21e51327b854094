"""Schedules: where they start, peak and end, and that they stay within [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofro.objectives.schedules import constant, cosine, linear, ramp, warmup_stable_decay

Schedule = Callable[[float, float, float], float]
ALL = [constant, linear, cosine, warmup_stable_decay]
SHARES = st.floats(0, 1)


@pytest.mark.parametrize("schedule", ALL)
def test_warm_up_rises_in_a_straight_line_to_the_peak(schedule: Schedule) -> None:
    assert [schedule(progress, 0.2, 0.5) for progress in (0, 0.05, 0.1, 0.2)] == pytest.approx([0, 0.25, 0.5, 1])
    assert schedule(0, 0, 0.5) == 1  # without warm-up the run starts at the peak


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (constant, [1, 1, 1, 1]),
        (linear, [0.75, 0.5, 0.25, 0]),
        (cosine, [0.8535534, 0.5, 0.1464466, 0]),
        (warmup_stable_decay, [1, 1, 0.5, 0]),
    ],
)
def test_known_values_after_warm_up(schedule: Schedule, values: list[float]) -> None:
    assert [schedule(progress, 0.2, 0.4) for progress in (0.4, 0.6, 0.8, 1)] == pytest.approx(values)


@pytest.mark.parametrize("schedule", ALL)
@given(progress=st.floats(-1, 2), warmup=SHARES, decay=SHARES)
def test_factors_stay_within_zero_and_one(schedule: Schedule, progress: float, warmup: float, decay: float) -> None:
    assert 0 <= schedule(progress, warmup, decay) <= 1
    assert schedule(progress, warmup, decay) == schedule(min(max(progress, 0), 1), warmup, decay)


@given(one=SHARES, two=SHARES, warmup=SHARES)
def test_no_rate_rises_after_warm_up(one: float, two: float, warmup: float) -> None:
    early, late = sorted(max(progress, warmup) for progress in (one, two))
    for schedule in ALL:
        assert schedule(late, warmup, 0.3) <= schedule(early, warmup, 0.3) + 1e-12


def test_lambda_schedules() -> None:
    assert [constant(progress) for progress in (0, 0.5, 1)] == [1, 1, 1]
    assert [ramp(progress, share=0.5) for progress in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
    assert ramp(0, share=0) == 1
