"""What an arm looks like in every figure: a colour, a marker and a dash, so that no two arms of a figure look alike.

In: runs. Out: a :class:`Look` for each method and variant. Colours are of middling lightness, legible on white and on near-black;
those that a colour-vision deficiency brings together have different markers and dashes. Torch- and matplotlib-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tofro.reports.arms import FLOORS, arms_of, tasks_of
from tofro.reports.collect import RunRecord

BLUE, ORANGE, GREEN, PINK, VIOLET, TEAL = "#2f7fc1", "#d9601a", "#159c77", "#c76ba0", "#7d6fc4", "#1f8fa3"
OLIVE, OCHRE, RED, BROWN, SLATE = "#6f8a1f", "#a97f00", "#c2475b", "#94633a", "#6a7f94"
GREY = "#9aa0a6"
HUES = (BLUE, ORANGE, GREEN, PINK, OCHRE, VIOLET, RED, TEAL, BROWN, OLIVE, SLATE)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (2, 1.4), (6, 2, 1.5, 2))  # on, off, ...; none is a whole line


@dataclass(frozen=True)
class Look:
    """How an arm is drawn: ``dash`` counts in DASHES."""

    colour: str
    marker: str = "o"
    dash: int = 0

    @property
    def line(self) -> tuple[int, tuple[float, ...]] | str:
        """The dash as matplotlib takes it."""
        return (0, DASHES[self.dash]) if DASHES[self.dash] else "-"


METHODS = {  # the same method has the same look in every report
    "full": Look(BLUE),
    "two_way": Look(ORANGE),
    "partial": Look(GREEN, "s"),
    "prompt": Look(PINK, "D", 1),
    "prompt_tune": Look(BLUE, "<", 2),
    "prompt_tune_two_way": Look(ORANGE, "s", 2),
    "lora": Look(VIOLET, "s", 1),
    "bitfit": Look(TEAL, "^", 2),
    "l2_sp": Look(OLIVE, "v", 3),
    "task_mlm": Look(GREEN, "P", 2),
    "distillation": Look(BROWN, "<", 1),
    "from_scratch": Look(SLATE, "X", 3),
    "ema": Look(RED, "X", 2),
    "mutual": Look(OCHRE, "^", 1),
    "wise": Look(PINK, "v", 3),
    "continued_mlm": Look(VIOLET, "P", 3),
    "measure": Look(SLATE, ">", 3),
}
FLOOR = Look(GREY)  # floors are never told apart by their look


def looks_of(runs: Sequence[RunRecord]) -> dict[str, Look]:
    """Return the look of every arm by its key: the first variant of a method has the method's own, the others spare ones."""
    chosen: dict[str, Look] = {}
    spare = _spare()
    for task in tasks_of(runs):
        for arm in arms_of(runs, task):
            if arm.key in chosen or arm.method in FLOORS:
                continue
            own = METHODS.get(arm.method)
            chosen[arm.key] = own if own is not None and own not in chosen.values() else next(spare)
    return chosen


def _spare() -> Iterator[Look]:
    """Yield looks that no method has, neighbours unlike in colour and marker; after ninety or so they come again."""
    taken = {(look.colour, look.marker) for look in METHODS.values()}
    while True:
        for turn in range(len(MARKERS)):
            for place, hue in enumerate(HUES):
                marker = MARKERS[(place + turn) % len(MARKERS)]
                if (hue, marker) not in taken:
                    yield Look(hue, marker, (place + turn) % len(DASHES))
