"""Real processes that form a group, for tests: fork quickly from a server that has the imports done."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pytorch_lightning", "torchmetrics", "tofro.runs.methods"])


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _enter(rank: int, size: int, port: int, results: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    from tofro.runs import ranks

    torch.set_num_threads(1)
    ranks.join()
    results.put((rank, pickle.dumps(function(*arguments))))  # by value: tensors would be shared with a process that has ended
    results.close()
    results.join_thread()
    ranks.leave()


def start(size: int, function: Callable[..., Any], *arguments: Any) -> tuple[list[Any], Any]:
    """Start ``function(*arguments)`` in ``size`` ranks; return the processes and the queue of (rank, result)."""
    results, port = SERVER.Queue(), free_port()
    parts = [(rank, size, port, results, function, arguments) for rank in range(size)]
    processes = [SERVER.Process(target=_enter, args=each, daemon=True) for each in parts]
    for process in processes:
        process.start()
    return processes, results


def together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what ``function(*arguments)`` returns on each of ``size`` ranks; with one, without a group."""
    if size == 1:
        return [function(*arguments)]
    processes, results = start(size, function, *arguments)
    found: dict[int, Any] = {}
    try:
        while len(found) < size:
            assert not any(process.exitcode for process in processes), "a rank has failed; its traceback stands above"
            with contextlib.suppress(queue.Empty):
                rank, result = results.get(timeout=0.1)
                found[rank] = pickle.loads(result)
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    return [found[rank] for rank in range(size)]


def tofro(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command ``tofro`` in a process of its own."""
    return python("-m", "tofro", *words, **environment)


def python(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start the interpreter that runs the tests, with one thread."""
    return subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(size: int, *words: str) -> subprocess.Popen[str]:
    """Start ``tofro`` in ``size`` ranks as a user of torchrun does."""
    return python("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m", "tofro", *words)


def in_turn(size: int, words: Callable[[int], list[str]], **environment: str) -> list[subprocess.Popen[str]]:
    """Start ``tofro`` once for each rank, by hand: rank r with the words ``words(r)``."""
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **environment}
    return [tofro(*words(rank), RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in range(size)]


def descendants(process: int) -> list[int]:
    """Return the processes that ``process`` has started, and theirs, as Linux lists them."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents.setdefault(int(parent), []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [process]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def is_alive(process: int) -> bool:
    """Say whether a process runs; one that has ended and was not yet asked for its exit code does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
