"""Ends a rank that was left behind: a rank that waits for a dead one would wait for long, and one without a parent for ever.

In: the process numbers of all ranks. Out: a thread that ends this process where another rank of the same machine, or the process
that started it, is gone. A rank on another machine is missed by the network, which reports a broken connection.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

EVERY = 0.5  # seconds between looks
GRACE = 4.0  # seconds to leave by oneself, by the error that the broken connection makes
LEFT_BEHIND = 1  # exit code
_PDEATHSIG = 1  # name of prctl(2)


class Watch:
    """Watches ``parent`` and the ranks ``others``, process numbers, that this process can see."""

    def __init__(self, parent: int, others: Sequence[int] = ()) -> None:
        self._parent = parent
        self._others = [process for process in others if _alive(process)]
        self._stopped = threading.Event()
        threading.Thread(target=self._look, name="tofro-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop watching: from here on ranks may leave."""
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(EVERY):
            if os.getppid() != self._parent:
                os._exit(LEFT_BEHIND)
            if not all(_alive(process) for process in self._others):
                time.sleep(GRACE)
                if not self._stopped.is_set():
                    os._exit(LEFT_BEHIND)


def die_with_parent() -> None:
    """Let the system kill this process when the one that started it is gone, busy as it may be; where the system can (Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is not None:
        prctl(_PDEATHSIG, signal.SIGKILL)


def _alive(process: int) -> bool:
    """Say whether a process runs still; one that has ended and waits to be asked for its exit code does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:  # no /proc, or a process of another user
        return True
