"""Contestants take turns, ratios are taken round by round, and a row says whether its goal is reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.apart import apart
from benchmarks.report import MARKS, Row, speed_row, write_markdown
from benchmarks.timing import Window, alternate, padding_note, rates, ratios


def test_every_round_holds_all_contestants_in_the_reverse_order_of_the_last() -> None:
    turns: list[str] = []
    found = alternate({name: lambda name=name: turns.append(name) or len(turns) for name in "abc"}, 3)
    assert "".join(turns) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_ratios_are_taken_round_by_round_so_that_a_slow_round_cancels_out() -> None:
    assert ratios([200.0, 20.0, 2.0], [100.0, 10.0, 1.0]) == (2.0, 2.0, 2.0)


def test_a_rate_counts_real_tokens_and_the_note_the_padding() -> None:
    windows = [Window(seconds=2.0, tokens=30, slots=40), Window(seconds=1.0, tokens=30, slots=60)]
    assert rates({"peer": windows}) == {"peer": [15.0, 30.0]}
    assert "padding 40.0%" in padding_note(windows)


@pytest.mark.parametrize(("value", "goal", "at_most", "reached"), [
    (1.5, 1.5, False, True), (1.49, 1.5, False, False), (3.0, 3.0, True, True), (3.1, 3.0, True, False),
    (None, 1.5, False, None), (1.0, None, False, None),
])  # fmt: skip
def test_a_goal_is_a_lower_or_an_upper_bound(
    value: float | None, goal: float | None, at_most: bool, reached: bool | None
) -> None:
    assert Row("b", "c", value, goal=goal, at_most=at_most).reached is reached


def test_the_markdown_table_replaces_what_stood_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{MARKS[0]}\n\nold\n\n{MARKS[1]}\n\nafter\n", encoding="utf-8")
    row = speed_row("pretraining", "mini", {"tofro": [300.0, 310.0], "peer": [200.0, 155.0]}, 1.5, "a note")
    for _ in range(2):  # writing again changes nothing more
        write_markdown([row], {"corpus": "pydoc"}, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{MARKS[0]}\n")
    assert text.endswith(f"{MARKS[1]}\n\nafter\n")
    assert "old" not in text
    assert text.count("| pretraining | mini | 305.0 | 177.5 | 1.75× | 1.50 to 2.00 | ≥ 1.5× | yes |") == 1
    assert text.count("corpus pydoc") == 1


def fails(message: str) -> None:
    """Fail while setting up; at the top level, so that it can be sent to another process."""
    raise ValueError(message)


@pytest.mark.slow
def test_a_failure_in_another_process_is_told_here() -> None:
    with pytest.raises(RuntimeError, match="no such corpus"), apart(fails, "no such corpus"):
        pass
