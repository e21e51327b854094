"""The launcher ``slurm``: a study's runs as jobs of a cluster, through submitit.

In: a study's jobs. Out: nothing; the jobs know how each run ended. Runs whose starts are made go into the queue together, as one
array; those that start from them follow when they are done, so this process stays and waits. A job that runs out of time is told
in time, saves, goes back into the queue and resumes there. Which job makes which run is written down: when this process is killed
and started again, it waits for what is in the queue and asks for nothing twice; the lock of a run's folder sees to the rest.
``launcher.cluster=local`` does the same in processes of this machine. Leaves out runs over several nodes (docs/slurm.sbatch).
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tofro.config.build import trust, trusted
from tofro.runs.folder import read_result, write_json
from tofro.runs.jobs import DONE, FAILED, Ending, Jobs, attempt
from tofro.runs.planning import Planned
from tofro.runs.settings import SlurmSettings
from tofro.runs.signals import Stopped

ALIVE = ("PENDING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "CONFIGURING", "COMPLETING", "RESIZING")  # states
LINES = 12  # of what a broken job said last
ARRAY = 500  # jobs of one array; clusters take 1,000 as a rule


class Call:
    """What a job does: one run. Out of time, it is called again in the next job."""

    def __init__(self, overrides: Sequence[str], trusted: Sequence[str]) -> None:
        self.overrides = tuple(overrides)
        self.trusted = tuple(trusted)

    def __call__(self) -> Ending:
        """Carry out the run. At a signal it has saved; submitit's own handler, which is back in its place, puts the job back."""
        for prefix in self.trusted:
            trust(prefix)
        try:
            return attempt(self.overrides)
        except Stopped as stopped:
            if stopped.number in (signal.SIGUSR1, signal.SIGUSR2):
                signal.raise_signal(stopped.number)
            raise

    def checkpoint(self) -> Any:
        """Return what goes back into the queue: the same call, since a run resumes by itself."""
        return library().helpers.DelayedSubmission(self)


def slurm(settings: SlurmSettings, jobs: Jobs) -> None:
    """Carry out ``jobs`` on the cluster. A stop signal leaves them in its queue."""
    jobs.retry_after = max(jobs.retry_after, 6 * settings.poll)
    queue = Queue(settings, jobs.home / "slurm")
    try:
        while jobs.open:
            _take(jobs, queue)
            for run, ending in queue.ended():
                jobs.end(run, ending)
            if jobs.open:
                time.sleep(settings.poll)
    except Stopped:
        queue.leave()
        raise


def _take(jobs: Jobs, queue: Queue) -> None:
    """Put every run that may start into the queue, but for those that are there from an earlier call."""
    new: list[Planned] = []
    while len(new) < queue.room and (run := jobs.take()) is not None:
        if not queue.adopt(run):
            new.append(run)
    if new:
        queue.submit(new)


class Queue:
    """The jobs in the cluster's queue, and the file that remembers them."""

    def __init__(self, settings: SlurmSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.memory = folder / "jobs.json"
        self.jobs: dict[Path, tuple[Planned, Any]] = {}  # by the run's folder: the run and submitit's job
        self.executor = executor(settings, folder)

    @property
    def room(self) -> int:
        """How many jobs may be asked for at once; this machine, other than a cluster, starts them all."""
        return ARRAY if self.settings.cluster == "slurm" else self.settings.workers - len(self.jobs)

    def adopt(self, run: Planned) -> bool:
        """Wait for the job that an earlier call has asked for, where it is still there; processes of this machine are not."""
        number = self._remembered().get(run.identity.name)
        if number is None or self.settings.cluster != "slurm":
            return False
        job = library().SlurmJob(folder=self.folder, job_id=number)
        if job.paths.result_pickle.exists() or job.watcher.get_state(number, mode="force").split(" ")[0] not in ALIVE:
            return False
        self.jobs[run.folder] = run, job
        return True

    def submit(self, runs: Sequence[Planned]) -> None:
        """Ask for a job for each of ``runs``, in one array."""
        self.folder.mkdir(parents=True, exist_ok=True)
        calls = [Call(run.overrides, trusted()) for run in runs]
        with self.executor.batch():
            asked = [self.executor.submit(call) for call in calls]
        self.jobs |= {run.folder: (run, job) for run, job in zip(runs, asked, strict=True)}
        remembered = self._remembered() | {run.identity.name: job.job_id for run, job in zip(runs, asked, strict=True)}
        write_json(self.memory, remembered)
        print(f"{len(runs)} jobs asked for, such as {asked[0].job_id}; logs in {self.folder}", file=sys.stderr, flush=True)

    def ended(self) -> list[tuple[Planned, Ending]]:
        """Return the runs whose jobs have ended, and how; they are forgotten."""
        found = [(run, self._ending(run, job)) for run, job in self.jobs.values() if job.done()]
        for run, _ in found:
            del self.jobs[run.folder]
        return found

    def leave(self) -> None:
        """Say what goes on without this process; processes of this machine are stopped."""
        if self.settings.cluster == "local":
            for _, job in self.jobs.values():
                job.cancel()
        elif self.jobs:
            numbers = sorted({job.job_id.partition("_")[0] for _, job in self.jobs.values()})
            print(
                f"tofro: {len(self.jobs)} jobs go on without this process; the same command waits for them again, "
                f"`scancel {' '.join(numbers)}` ends them",
                file=sys.stderr,
                flush=True,
            )

    def _ending(self, run: Planned, job: Any) -> Ending:
        try:
            if read_result(run.folder) is not None:
                return Ending(DONE)
        except ValueError as error:
            return Ending(FAILED, str(error))
        try:
            ending: Ending = job.result()
        except Exception as error:  # submitit's own, of a job that was killed or broke down
            said = str(error).strip().splitlines()[-LINES:]
            return Ending(FAILED, "\n  ".join([f"job {job.job_id} ended without a result; {job.paths.stderr}", *said]))
        return ending

    def _remembered(self) -> dict[str, str]:
        try:
            known: dict[str, str] = json.loads(self.memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known


def executor(settings: SlurmSettings, folder: Path) -> Any:
    """Return submitit's executor, set up as the settings say; ValueError where the cluster or a parameter is not there."""
    submitit, cluster = library(), settings.cluster
    try:
        made = submitit.AutoExecutor(folder, cluster=cluster, **{f"{cluster}_max_num_timeout": settings.requeues})
    except RuntimeError as error:
        raise ValueError(f"launcher=slurm: {error} launcher.cluster=local tries the same on this machine") from None
    made.update_parameters(name="tofro", timeout_min=settings.minutes, gpus_per_node=settings.gpus or None)
    if cluster == "slurm":
        extra = {"account": settings.account, **settings.extra}
        chosen = {"slurm_partition": settings.partition}
        chosen |= {"slurm_mem": f"{settings.memory_gb:g}GB" if settings.memory_gb else None}
        made.update_parameters(
            cpus_per_task=settings.cpus,
            slurm_array_parallelism=settings.workers,
            slurm_signal_delay_s=settings.grace,
            slurm_setup=list(settings.setup),
            slurm_additional_parameters={name: value for name, value in extra.items() if value is not None},
            **{name: value for name, value in chosen.items() if value is not None},
        )
    return made


def library() -> Any:
    """Return submitit; ValueError where it is not installed."""
    try:
        import submitit
    except ModuleNotFoundError:
        raise ValueError("launcher=slurm needs submitit: pip install 'tofro[slurm]'") from None
    return submitit
