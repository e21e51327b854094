"""Real processes that form a group, for tests: fork quickly from a server that has the imports done."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
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
    processes = [SERVER.Process(target=_enter, args=each) for each in parts]
    for process in processes:
        process.start()
    return processes, results


def together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what ``function(*arguments)`` returns on each of ``size`` ranks; with one, without a group."""
    if size == 1:
        return [function(*arguments)]
    processes, results = start(size, function, *arguments)
    found = {rank: pickle.loads(result) for rank, result in (results.get(timeout=120) for _ in processes)}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [found[rank] for rank in range(size)]
