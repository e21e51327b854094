"""The clock: one progress for every kind of budget, at whose end a schedule has run its course."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tofro.modules import clock as clocks
from tofro.modules.clock import Clock
from tofro.modules.settings import BudgetSettings
from tofro.objectives.schedules import cosine, linear, warmup_stable_decay

STEPS, TOKENS = 40, [90 + 7 * (step % 5) for step in range(40)]
KINDS: dict[str, tuple[BudgetSettings, str]] = {
    "steps": (BudgetSettings(steps=STEPS), "steps"),
    "epochs": (BudgetSettings(epochs=2.5), "steps"),  # of 16 steps
    "tokens": (BudgetSettings(tokens=sum(TOKENS)), "tokens"),
    "minutes": (BudgetSettings(minutes=STEPS / 60), "seconds"),  # of one step a second
}


def shares(budget: BudgetSettings, first: int = 0, state: dict[str, float] | None = None) -> list[float]:
    """Return the progress after each step of a run, from step ``first`` on."""
    clock = Clock(budget, 16)
    if state is not None:
        clock.load_state_dict(state)
    found = []
    for step in range(first, STEPS):
        assert not clock.finished(step)
        clock.spend(TOKENS[step])
        clock.tick(step + 1.0)
        found.append(clock.progress(step + 1))
    assert clock.finished(STEPS)
    assert clock.evaluates(STEPS)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", [linear, cosine, warmup_stable_decay])
def test_a_schedule_ends_with_the_budget(kind: str, schedule: Callable[..., float]) -> None:
    budget, unit = KINDS[kind]
    assert Clock(budget, 16).unit == unit
    found = shares(budget)
    assert found == sorted(found)
    assert found[-1] == 1.0
    factors = [schedule(share, warmup=0.1, decay=0.25) for share in found]
    assert max(factors) == pytest.approx(1.0, abs=0.06)
    assert factors[0] < 0.3
    assert factors[-2] < 0.15
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)


def test_steps_epochs_and_minutes_of_even_steps_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares(KINDS["steps"][0]) == shares(KINDS["epochs"][0])
    assert shares(KINDS["steps"][0]) == pytest.approx(shares(KINDS["minutes"][0]))
    assert shares(KINDS["tokens"][0]) != shares(KINDS["steps"][0])


@pytest.mark.parametrize("kind", ["steps", "tokens"])
def test_a_resumed_clock_goes_on_exactly(kind: str) -> None:
    budget, whole = KINDS[kind][0], shares(KINDS[kind][0])
    early = Clock(budget, 16)
    for step in range(13):
        early.spend(TOKENS[step])
    assert shares(budget, 13, early.state_dict()) == whole[13:]


def test_time_counts_over_sessions_and_moves_at_ticks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: now[0])
    clock = Clock(BudgetSettings(minutes=1), 16)
    clock.start()
    now[0] += 15
    assert clock.progress(3) == 0.0  # until all ranks have agreed
    clock.tick(clock.elapsed)
    assert clock.progress(3) == 0.25
    state = clock.state_dict()
    now[0] += 1000  # the machine is off
    resumed = Clock(BudgetSettings(minutes=1), 16)
    resumed.load_state_dict(state)
    resumed.start()
    assert resumed.progress(3) == 0.25
    now[0] += 45
    resumed.tick(resumed.elapsed)
    assert resumed.finished(4)


def test_the_evaluation_interval() -> None:
    assert Clock(BudgetSettings(steps=1000), 16).evaluate_every == 100
    assert Clock(BudgetSettings(tokens=1000), 16).evaluate_every == 200
    assert Clock(BudgetSettings(minutes=1, evaluate_every=7), 16).evaluate_every == 7
