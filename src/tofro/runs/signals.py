"""Stop signals: a training loop notes them and leaves at its next step; anywhere else in a run they end it at once.

In: SIGTERM, SIGINT, SIGUSR1, SIGUSR2 to the process. Out: :class:`Stopped`. Handlers belong to the process, hence the one state
of this module. Leaves out what is saved before a run leaves (runs/checkpoints.py). Torch-free.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
INTERRUPTED, TERMINATED = 130, 143  # exit codes: of SIGINT, and of the others


class Stopped(SystemExit):
    """A signal ends the run. No Exception, so that no driver of many runs goes on with the next one."""

    def __init__(self, number: int, at_once: bool = False) -> None:
        self.exit_code = INTERRUPTED if number == signal.SIGINT else TERMINATED
        super().__init__(self.exit_code)
        self.number = number
        self.at_once = at_once  # asked for twice: wait for nothing, not even a checkpoint that is being written

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}; the same command resumes"


@dataclass
class _State:
    listening: bool = False
    patient: bool = False  # inside a training loop
    noted: int = 0  # the signal that waits for an answer


_state = _State()


@contextmanager
def listening() -> Iterator[None]:
    """Let stop signals raise :class:`Stopped` inside the block. Does nothing outside the main thread, which gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _state.listening:
        _leave_if_noted()
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    _state.listening = True
    for each in SIGNALS:
        signal.signal(each, _hear)
    try:
        yield
    finally:
        _state.listening, _state.noted = False, 0
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def patiently() -> Iterator[None]:
    """Inside the block only note signals: its code asks :func:`noted` and leaves in good order. A second SIGINT still raises."""
    _leave_if_noted()
    _state.patient = True
    try:
        yield
    finally:
        _state.patient = False
    _leave_if_noted()


def noted() -> int:
    """Return the signal that waits for an answer, 0 where there is none."""
    return _state.noted


def _hear(number: int, frame: FrameType | None) -> None:
    again = number == _state.noted == signal.SIGINT
    if _state.patient and not again:
        if number == signal.SIGINT or not _state.noted:
            _state.noted = number
        return
    raise Stopped(number, at_once=again)


def _leave_if_noted() -> None:
    if _state.noted:
        number, _state.noted = _state.noted, 0
        raise Stopped(number)
