"""The launcher ``local``: a study's runs on this machine, one after the other or several at a time in warm worker processes.

In: a study's jobs. Out: nothing; the jobs know how each run ended. With one worker the runs share this process. With more, each
worker is a fresh interpreter at the end of a pipe that imports the stack once and takes run after run. Cores and GPUs are shared
out evenly, whether or not all workers have something to do, so that no number depends on who else was running. A worker that dies
fails its run alone and is replaced. When this process dies, by whatever signal, its workers notice and end (worker.py).

Why not a pool of the standard library: there a worker that is killed takes every run with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import TracebackType

from tofro.config.build import trusted
from tofro.runs.jobs import FAILED, Ending, Jobs, attempt
from tofro.runs.launch import CORES, PATIENCE
from tofro.runs.planning import Planned
from tofro.runs.settings import LauncherSettings
from tofro.runs.signals import Stopped, listening
from tofro.tokens.workers import usable_cores

MODULE = "tofro.runs.worker"  # what a worker is
LEAVING = 10.0  # seconds that an idle worker has to end


def local(settings: LauncherSettings, jobs: Jobs) -> None:
    """Carry out ``jobs``, ``settings.workers`` at a time. :class:`Stopped` passes through once what was computed is saved."""
    if settings.workers == 1:
        in_turn(jobs)
        return
    with listening(), Pool(settings.workers, jobs.home / "logs") as pool:
        pool.carry_out(jobs)


def in_turn(jobs: Jobs) -> None:
    """Carry out runs one after the other in this process."""
    while jobs.open:
        each = jobs.take()
        if each is not None:
            jobs.end(each, attempt(each.overrides))
        elif jobs.open:
            _rest(jobs)


def _rest(jobs: Jobs) -> None:
    """Wait for another process that makes what the runs need."""
    pause = jobs.pause
    assert pause is not None, "runs wait for each other"
    time.sleep(pause)


class Worker:
    """A worker process and the run that it has in hand."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        """Start it; what its runs print goes to files in ``logs``."""
        self.pipe, there = Pipe()
        self.run: Planned | None = None
        self.logs = logs
        with there:
            options = [f"--trust={prefix}" for prefix in trusted()]
            command = [sys.executable, "-m", MODULE, *options, str(there.fileno()), str(os.getpid()), str(logs)]
            # A process group of its own: Ctrl-C reaches it once, from here, and not a second time from the terminal.
            self.process = subprocess.Popen(  # noqa: S603 - a fixed program, arguments of ours
                command, pass_fds=[there.fileno()], env=environment, stdin=subprocess.DEVNULL, process_group=0
            )

    def give(self, run: Planned) -> bool:
        """Hand it a run; False where it has died in the meantime."""
        try:
            self.pipe.send((run.identity.name, run.overrides))
        except OSError:
            return False
        self.run = run
        return True

    def answer(self) -> tuple[Planned, Ending]:
        """Return how its run ended, once there is something to read."""
        run, self.run = self.run, None
        assert run is not None
        try:
            ending = self.pipe.recv()
            assert isinstance(ending, Ending)
            return run, ending
        except (EOFError, OSError):
            return run, Ending(FAILED, self._mourn(run))

    def _mourn(self, run: Planned) -> str:
        code = self.process.wait()
        log = self.logs / f"{run.identity.name}.log"
        how = f"killed ({signal.Signals(-code).name})" if code < 0 else f"gone with exit code {code}"
        hint = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return f"its process was {how}{hint}; the same command resumes it. What it printed: {log}"

    def bury(self, patience: float = 0.0) -> None:
        """Let it end, which it does when the pipe is closed; not in time, it is killed."""
        self.pipe.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """``count`` workers, each with its share of cores and GPUs. All start at once: who waits for a stage meanwhile imports."""

    def __init__(self, count: int, logs: Path) -> None:
        self.shares = shares(count)
        self.logs = logs
        self.workers: list[Worker | None] = [None] * count

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in filter(None, self.workers):
            worker.bury(0.0 if kind is not None else LEAVING)

    def carry_out(self, jobs: Jobs) -> None:
        """Carry out all runs; at a stop signal let those in hand save and leave."""
        try:
            for place in range(min(len(self.workers), jobs.total)):
                self._start(place)
            while jobs.open:
                self._hand_out(jobs)
                self._listen(jobs)
        except Stopped as stop:
            self._stop(stop.number)
            raise

    def _start(self, place: int) -> Worker:
        before = self.workers[place]
        if before is not None:
            before.bury()
        worker = self.workers[place] = Worker(os.environ | self.shares[place], self.logs)
        return worker

    def _hand_out(self, jobs: Jobs) -> None:
        for place, worker in enumerate(self.workers):
            if worker is not None and worker.run is not None:
                continue
            run = jobs.take()
            if run is None:
                return
            if (worker is None or not worker.give(run)) and not self._start(place).give(run):
                jobs.end(run, Ending(FAILED, "its process could not start; what it said stands above"))

    def _listen(self, jobs: Jobs) -> None:
        """Wait until a worker answers or dies, or a run that was set aside is due."""
        busy = {worker.pipe: (place, worker) for place, worker in enumerate(self.workers) if worker and worker.run}
        if not busy:
            if jobs.open:
                _rest(jobs)
            return
        for pipe in wait(list(busy), timeout=jobs.pause):
            assert isinstance(pipe, Connection)
            place, worker = busy[pipe]
            run, ending = worker.answer()
            if worker.process.poll() is not None:
                worker.bury()
                self.workers[place] = None
            jobs.end(run, ending)

    def _stop(self, number: int) -> None:
        """Pass a stop signal on and wait until the runs in hand have saved; a second signal ends them as they are."""
        busy = [worker for worker in self.workers if worker and worker.run]
        for worker in busy:
            worker.process.send_signal(number)
        if busy:
            print(f"tofro: waiting for {len(busy)} runs to save what they have", file=sys.stderr, flush=True)
        until = time.monotonic() + PATIENCE
        for worker in busy:
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()


def shares(count: int) -> list[dict[str, str]]:
    """Return the environment of each of ``count`` workers: their cores, and their GPUs where the machine has some.

    The numbers of a run may differ in the last digits with the number of threads; every worker has the same.
    """
    cores = max(1, usable_cores() // count)
    gpus, found = visible_gpus(), []
    each = max(1, len(gpus) // count)
    for place in range(count):
        share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cores), CORES: str(cores)}
        if gpus:
            first = place * each % len(gpus)
            share["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + each])
        found.append(share)
    return found


def visible_gpus() -> Sequence[str]:
    """Return the names of the CUDA devices that this process may use, without torch; none where nvidia-smi is not there."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]
