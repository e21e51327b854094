"""A contestant in a process of its own, so that neither side's allocator, caches or settings reach the other.

In: a function that sets the contestant up there. Out: a callable that lets it work once and returns what it found, while the
other side's process rests.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch


@contextmanager
def apart(make: Callable[..., Callable[[], Any]], *arguments: Any) -> Iterator[Callable[[], Any]]:
    """Start a process, set ``make(*arguments)`` up in it, and yield a function that calls the result there.

    ``make`` and its arguments travel by pickle. What fails there raises RuntimeError here, with the traceback.
    """
    here, there = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_work, args=(there, torch.get_num_threads(), make, arguments))
    process.start()
    there.close()

    def answer() -> Any:
        try:
            good, value = here.recv()
        except EOFError:
            process.join()
            raise RuntimeError(f"the process of {make} ended with exit code {process.exitcode}") from None
        if not good:
            raise RuntimeError(value)
        return value

    def work() -> Any:
        here.send("work")
        return answer()

    try:
        answer()
        yield work
    finally:
        here.close()  # the other side ends at the end of its input
        process.join()


def _work(pipe: Connection, threads: int, make: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> None:
    """Set up, say so, and work whenever told, until the other side hangs up."""
    torch.set_num_threads(threads)
    try:
        contestant = make(*arguments)
        pipe.send((True, None))
        while True:
            pipe.recv()
            pipe.send((True, contestant()))
    except EOFError:
        return
    except Exception:
        pipe.send((False, traceback.format_exc()))
