"""Starts the ranks of one run on this machine, and turns what becomes of them into a result or one error.

In: a run's folder with its config, and how many ranks. Out: nothing, where all is well: the first rank has written the result.
The ranks run ``python -m tofro.runs.rank`` under torch's elastic agent, the one behind torchrun, in this process; nothing is ever
started again from ``sys.argv``. Leaves out several machines: torchrun or srun start those ranks, and they join (runs/run.py).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from tofro.batches.order import rank_share
from tofro.config.build import trusted
from tofro.runs import ranks
from tofro.runs.ranks import RankFailed
from tofro.runs.signals import SIGNALS, Stopped

LAUNCHER = "TOFRO_LAUNCHER"  # environment of a rank: the process number of who started it
CORES = "TOFRO_CORES"  # environment of a study's worker: the cores that are its share
PATIENCE = 600  # seconds that ranks have after a stop signal, to save what they have computed


def trains(config: DictConfig) -> bool:
    """Say whether the config's method trains; the others have work for one process only."""
    return "budget" in config.method.reads


def planned_ranks(config: DictConfig) -> int:
    """Return how many ranks a run will have, and check, torch-free, that it can: ValueError before anything starts."""
    if not trains(config):
        return 1
    here, settings = ranks.place(), config.trainer
    count = here.size if here else settings.devices
    if here is None and settings.num_nodes > 1:
        raise ValueError(
            f"trainer.num_nodes={settings.num_nodes}: start tofro by torchrun or srun on every machine (docs/how-to.md says how)"
        )
    agrees = count in (1, settings.devices * settings.num_nodes) or (settings.devices == 1 and count % settings.num_nodes == 0)
    if here and not agrees:
        raise ValueError(
            f"trainer.devices={settings.devices} x trainer.num_nodes={settings.num_nodes}, but torchrun or srun started {count} "
            "ranks; leave both keys out, or make them agree"
        )
    rank_share(np.arange(config.budget.batch), 0, count, config.budget.accumulate)
    return count


def launch(folder: Path, count: int, threads: int | None, overrides: Sequence[str]) -> None:
    """Run ``folder``'s config in ``count`` ranks and wait for them.

    ValueError where a rank found a mistake of the user, :class:`Stopped` after a stop signal, which every rank is sent,
    :class:`RankFailed` for the rest.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    arguments = ["-m", "tofro.runs.rank", *(f"--trust={prefix}" for prefix in trusted()), "--", str(folder), *overrides]
    with tempfile.TemporaryDirectory(prefix="tofro-ranks-") as notes, _stage(_threads(threads, count)):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=notes),
            signals_to_handle=",".join(signal.Signals(number).name for number in SIGNALS),
            shutdown_timeout=PATIENCE,
        )
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except SignalException as stop:
            raise Stopped(stop.sigval) from None
        except ChildFailedError as failed:
            raise explain({rank: (each.exitcode, each.error_file_data) for rank, each in failed.failures.items()}) from None


def _threads(threads: int | None, count: int) -> dict[str, str]:
    """Return the environment that says how many threads each of ``count`` ranks has: what the user says, else an even share."""
    cores = os.environ.get(CORES)
    if cores is None and "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(threads or max(1, int(cores or os.cpu_count() or 1) // count))}


@contextmanager
def _stage(environment: dict[str, str]) -> Iterator[None]:
    """Give the ranks their environment; keep the agent's log to itself and put the signal handlers back afterwards."""
    added = {LAUNCHER: str(os.getpid()), **environment}
    before = {name: os.environ[name] for name in added if name in os.environ}
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    os.environ.update(added)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for name in added:
            del os.environ[name]
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def explain(failures: dict[int, tuple[int, dict[str, Any]]]) -> BaseException:
    """Return the one error that stands for what became of the ranks: {rank: (exit code, what it noted)}.

    A rank that was killed explains why the others broke off, a mistake why they were stopped; of bugs the first one counts.
    """
    killed = {rank: code for rank, (code, _) in failures.items() if code == -signal.SIGKILL}
    for rank in killed:
        return RankFailed(f"rank {rank} was killed (SIGKILL), perhaps for want of memory; the same command resumes")
    noted = sorted((note["time"], rank, note) for rank, (_, note) in failures.items() if "time" in note)
    for _, _, note in noted:
        if note["mistake"]:
            return ValueError(note["message"])
    for code, number in ((130, signal.SIGINT), (143, signal.SIGTERM)):
        if any(code == each for each, _ in failures.values()):
            return Stopped(number)
    for _, rank, note in noted:
        return RankFailed(f"rank {rank} failed; the same command resumes\n{note['traceback']}")
    rank, (code, _) = min(failures.items())
    return RankFailed(f"rank {rank} ended with exit code {code}; the same command resumes")


def note_failure(error: BaseException, mistake: bool, traceback: str) -> None:
    """Leave word for the launcher why this rank fails."""
    place, now = os.environ.get("TORCHELASTIC_ERROR_FILE"), time.time()
    if place:  # `message` and `timestamp` are what the agent looks for
        note = {"message": str(error), "timestamp": int(now), "time": now, "mistake": mistake, "traceback": traceback}
        Path(place).write_text(json.dumps(note), encoding="utf-8")
