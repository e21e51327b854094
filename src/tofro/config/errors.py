"""What a config mistake looks like to the user: at most eight lines that name the key and say what to write instead.

In: problems as (what is wrong, what to do). Out: ``ConfigError``, a ValueError whose text is ready to print. Finding out what
was wrong is ``explain.py``'s job. ``is_mistake`` tells any user's mistake from a bug.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

LINES = 8
WIDTH = 160


class ConfigError(ValueError):
    """A mistake of the user in overrides or config files; its text is the message, at most eight lines."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        assert self.problems, "a ConfigError needs a problem"
        super().__init__(_render(self.problems))


def is_mistake(error: BaseException) -> bool:
    """Tell whether the user can mend an error: a ValueError raised by tofro's own code, not by a library under it."""
    if not isinstance(error, ValueError):
        return False
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).partition(".")[0] == "tofro"


def _render(problems: tuple[tuple[str, str], ...]) -> str:
    """Lay the problems out, one line each and an indented line for its remedy; what does not fit is counted."""
    lines: list[str] = []
    for number, (what, remedy) in enumerate(problems):
        block = _clip([what]) + ["  " + line for line in _clip(remedy.splitlines())]
        left = len(problems) - number
        if len(lines) + len(block) > LINES - (1 if left > 1 else 0):
            lines.append(f"and {left} more")
            break
        lines += block
    return "\n".join(lines[:LINES])


def _clip(lines: list[str]) -> list[str]:
    """Fold line breaks and cut lines that would fill a screen."""
    flat = [" ".join(line.split()) for line in lines if line.strip()]
    return [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in flat]


def closest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most like ``word``, best first: alike as a whole, or alike in their last dotted part.

    The last part counts a little less, so that ``lr`` finds ``optimizer.lr`` and ``budget.stpes`` finds ``budget.steps`` first.
    """
    last = word.rpartition(".")[2]
    scored = []
    for name in dict.fromkeys(known):
        whole = _likeness(word, name)
        tail = 0.95 * _likeness(last, name.rpartition(".")[2])
        scored.append((max(whole, tail if len(last) > 1 else 0.0), whole, name))
    best = max((entry[0] for entry in scored), default=0.0)
    good = [entry for entry in scored if entry[0] >= max(0.66, best - 0.1)]
    return [name for _, _, name in sorted(good, key=lambda entry: (-entry[0], -entry[1], entry[2]))][:count]


def _likeness(a: str, b: str) -> float:
    """Return 1 for equal, 0 for nothing in common; case does not count."""
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return 'did you mean ...?' for the closest known names, or an empty text where nothing is close."""
    names = closest(word, known)
    return f"did you mean {' or '.join(names)}?" if names else ""
