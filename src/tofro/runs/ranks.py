"""The processes that share one run: who they are, the group they form, and the few small words they exchange.

In: what torchrun, srun or the launcher put into the environment. Out: ``join()`` forms the group, ``leave()`` ends it, and
between the two ranks agree on plain numbers and small objects over the CPU, so that no device waits. With one process every
function is the identity and torch is not imported. Leaves out gradients (Lightning's DDP) and starting ranks (launch.py).
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from tofro.runs.watch import Watch

T = TypeVar("T")

MEETING = timedelta(minutes=15)  # until all ranks have started
STEP = timedelta(minutes=30)  # one exchange; a checkpoint or an evaluation of the first rank fits in
PREPARATION = timedelta(days=2)  # while the first rank tokenises alone
POLL = 0.1  # seconds
REFUSED = 2  # exit code of a rank whose first rank tells the user why


class RankFailed(RuntimeError):
    """A rank died of a bug or was killed; the text says which, and shows the rank's own traceback."""


@dataclass(frozen=True)
class Place:
    """A process' place among its ranks, and where they meet."""

    rank: int
    size: int
    local_rank: int  # on its machine
    address: str
    port: int


def place() -> Place | None:
    """Return this process' place as torchrun or srun tell it, or None where it runs alone.

    torchrun and the launcher set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. srun sets SLURM_PROCID and
    SLURM_NTASKS; a batch script that calls tofro itself has these too and is told apart by its lack of a step, unless MASTER_ADDR
    is set.
    """
    env = os.environ
    if all(name in env for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")):
        rank, size, local = (int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return Place(rank, size, local, env["MASTER_ADDR"], int(env["MASTER_PORT"])) if size > 1 else None
    step = env.get("SLURM_STEP_ID", env.get("SLURM_STEPID"))
    size = int(env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", "1")))
    if "SLURM_PROCID" not in env or size == 1 or (step is None and "MASTER_ADDR" not in env):
        return None
    # Two steps of one job, and two jobs on one machine, must not meet at the same port.
    port = env.get("MASTER_PORT") or 20000 + (int(env.get("SLURM_JOB_ID", "0")) * 7 + int(step or "0")) % 20000
    return Place(int(env["SLURM_PROCID"]), size, int(env.get("SLURM_LOCALID", "0")), _slurm_address(), int(port))


def _slurm_address() -> str:
    if "MASTER_ADDR" in os.environ:
        return os.environ["MASTER_ADDR"]
    from lightning_fabric.plugins.environments import SLURMEnvironment

    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_JOB_NODELIST", "127.0.0.1"))
    return SLURMEnvironment.resolve_root_node_address(nodes)


class _Group:
    """What lasts from ``join`` to ``leave``: the store where the ranks have met, and the watch over one another."""

    store: Any = None
    watch: Watch | None = None
    alone: int = 0  # how often the first rank has gone first


def join() -> None:
    """Form the group of all ranks and wait until each is there; without effect for a process that runs alone.

    CPU tensors travel by gloo, CUDA tensors by nccl. Lightning finds the group and uses it.
    """
    here = place()
    if here is None or world_size() > 1:
        return
    import torch
    from torch import distributed

    backend = "gloo"
    if torch.cuda.is_available() and distributed.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
    host = f"[{here.address}]" if ":" in here.address else here.address
    store, _, _ = next(distributed.rendezvous(f"tcp://{host}:{here.port}", here.rank, here.size, timeout=MEETING))
    distributed.init_process_group(
        backend, store=distributed.PrefixStore("group", store), rank=here.rank, world_size=here.size, timeout=STEP
    )
    _Group.store, _Group.alone = distributed.PrefixStore("tofro", store), 0
    ranks = everyone((_machine(), os.getpid()))
    _Group.watch = Watch(os.getppid(), [process for machine, process in ranks if machine == _machine()])


def _machine() -> str:
    """Name the machine and the process table on it: only within one can a process see another."""
    try:
        table = os.readlink("/proc/self/ns/pid")
    except OSError:
        table = ""
    return f"{socket.gethostname()} {table}"


def leave() -> None:
    """End the group: from here on every process goes on alone."""
    if world_size() == 1:
        return
    from torch import distributed

    wait()
    if _Group.watch is not None:
        _Group.watch.stop()
    distributed.destroy_process_group()
    _Group.store = _Group.watch = None


def leave_to_first() -> None:
    """End the group and every process but the first rank's, which goes on alone; the others' exit code is 0."""
    first = is_first()
    leave()
    if not first:
        raise SystemExit(0)


def end(code: int) -> NoReturn:
    """End this process, a rank, with ``code``: exit functions run, Python's own clean-up does not.

    gloo's threads hand the tensors of the last exchange back late, and one that comes while Python cleans up aborts the process.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def world_size() -> int:
    """Return the number of ranks that have joined; 1 for a process that runs alone."""
    distributed: Any = sys.modules.get("torch.distributed")
    joined = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return int(distributed.get_world_size()) if joined else 1


def rank() -> int:
    """Return this process' number among its ranks, from 0."""
    return int(sys.modules["torch.distributed"].get_rank()) if world_size() > 1 else 0


def is_first() -> bool:
    """Say whether this process is the one that writes files and talks to the user."""
    return rank() == 0


def largest(values: Sequence[float]) -> list[float]:
    """Return the largest of each value over all ranks."""
    return _reduced(values, "MAX")


def largest_later(values: Sequence[float]) -> Callable[[], list[float]]:
    """Begin :func:`largest` and return at once; what comes back waits for it and returns the result."""
    if world_size() == 1:
        return lambda: list(values)
    import torch
    from torch import distributed

    tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU
    work = distributed.all_reduce(tensor, distributed.ReduceOp.MAX, async_op=True)

    def result() -> list[float]:
        work.wait()
        return list(tensor.tolist())

    return result


def total(values: Sequence[float]) -> list[float]:
    """Return the sum of each value over all ranks."""
    return _reduced(values, "SUM")


def _reduced(values: Sequence[float], how: str) -> list[float]:
    if world_size() == 1:
        return list(values)
    import torch
    from torch import distributed

    tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU
    distributed.all_reduce(tensor, getattr(distributed.ReduceOp, how))
    return list(tensor.tolist())


def from_first(value: T) -> T:
    """Return the first rank's ``value``, a small object, on every rank."""
    if world_size() == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def everyone(value: T) -> list[T]:
    """Return every rank's ``value``, a small object, in order of rank."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


@contextmanager
def told() -> Iterator[None]:
    """Let every rank go through the block, and end them all where one finds a mistake: the first tells the user, once."""
    if world_size() == 1:
        yield
        return
    error: ValueError | None = None
    try:
        yield
    except ValueError as caught:
        error = caught
    texts = everyone(None if error is None else str(error))
    found = next((number for number, text in enumerate(texts) if text is not None), None)
    if found is None:
        return
    if not is_first():
        raise SystemExit(REFUSED)
    raise error or ValueError(f"rank {found}: {texts[found]}")


def says(text: str) -> bool:
    """Say whether this rank is the one that shows ``text``: all of them may have come upon the same mistake."""
    try:
        return world_size() == 1 or bool(_Group.store.add(f"said/{text}", 1) == 1)
    except RuntimeError:  # the rank that holds the store is gone
        return is_first()


def wait() -> None:
    """Return once every rank has come here."""
    largest([0.0])


@contextmanager
def first_alone() -> Iterator[None]:
    """Let the first rank through the block before the others: what it builds there they find built.

    Where it fails, the others end quietly: it has told the user why.
    """
    if world_size() == 1:
        yield
        return
    _Group.alone += 1
    key = f"alone/{_Group.alone}"
    if is_first():
        try:
            yield
        except BaseException:
            _Group.store.set(key, "failed")
            _poll(lambda: _Group.store.add(f"{key}/heard", 0) == world_size() - 1, 2.0)  # it holds the store: they hear it first
            raise
        _Group.store.set(key, "done")
        return
    # Not one long wait: a signal must find the process listening.
    _poll(lambda: _Group.store.check([key]), PREPARATION.total_seconds())
    if _Group.store.get(key) != b"done":
        _Group.store.add(f"{key}/heard", 1)
        raise SystemExit(REFUSED)
    yield


def _poll(there: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not there() and time.monotonic() < deadline:
        time.sleep(POLL)
