"""Neutral settings: where and how a run executes, never what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from tofro.declare import setting


@dataclass
class TrainerSettings:
    """Devices, workers and cadence."""

    accelerator: str = setting("auto", "auto takes a GPU where there is one", choices=("auto", "cpu", "gpu"))
    devices: int = setting(1, "processes on this machine, one per device", low=1)
    num_nodes: int = setting(1, "machines; torchrun or srun starts tofro on each", low=1)
    workers: int = setting(0, "data loading processes per device; 0 builds batches in the run's own process", low=0)
    threads: Optional[int] = setting(None, "torch threads per process; null leaves torch's choice", low=1)
    deterministic: bool = setting(False, "deterministic algorithms on CUDA; the CPU is deterministic as it is")
    compile: bool = setting(False, "torch.compile the encoders' layers: takes a minute to start; a GPU gains most")
    activation_checkpointing: bool = setting(
        False, "keep one state per layer and compute the rest again in the backward pass: less memory, about a third more time"
    )
    log_every: int = setting(20, "steps between writes of metrics.jsonl; every step is written", low=1)
    gradients_every: Optional[int] = setting(
        None,
        "steps between norms of each term's gradient at the encoders' parameters, a backward pass a term; null means never",
        low=1,
    )
    checkpoint_every: int = setting(500, "steps between checkpoints", low=1)
    checkpoint_minutes: Optional[float] = setting(None, "save also when the last one is this old; null means never", above=0)
    keep_checkpoints: bool = setting(
        False, "keep the newest checkpoints, states of optimizers and all, of a run that is finished; nothing reads them"
    )
    progress: bool = setting(True, "show a progress bar, or plain lines where there is no terminal")
    fit: Any = setting({}, "further keyword arguments of lightning.Trainer that bear on no result")


@dataclass
class LoggerSettings:
    """A view of metrics.jsonl; metrics.jsonl itself is always written."""

    _target_: Optional[str] = setting(None, "function (settings, config, folder) -> logger; null means metrics.jsonl alone")
    project: str = setting("tofro", "project on the tracker")
    mode: str = setting(
        "auto",
        "of wandb. auto: online where a key is known and the server answers, else offline; never a prompt",
        choices=("auto", "online", "offline"),
    )


@dataclass
class LauncherSettings:
    """How a study's runs are carried out. A run by itself reads nothing of it."""

    _target_: Optional[str] = setting(None, "function (settings, jobs) -> None that carries out what a study has to do")
    workers: int = setting(
        1, "runs of a study at a time: on this machine they share out cores and GPUs, on a cluster they are jobs", low=1
    )


@dataclass
class SlurmSettings(LauncherSettings):
    """What is asked of SLURM for each run."""

    cluster: str = setting(
        "slurm", "slurm, or local: the same jobs as processes of this machine, to try them out", choices=("slurm", "local")
    )
    partition: Optional[str] = setting(None, "partition; null leaves the cluster's choice")
    account: Optional[str] = setting(None, "account that pays; null leaves the cluster's choice")
    minutes: int = setting(60, "time limit of a job; a run that needs longer saves, goes back into the queue and resumes", low=1)
    grace: int = setting(120, "seconds before the time limit at which a run is told to save", low=1)
    requeues: int = setting(100, "how often a run that ran out of time goes back into the queue", low=0)
    cpus: int = setting(2, "cores of a job", low=1)
    gpus: int = setting(0, "GPUs of a job; set trainer.devices to as many", low=0)
    memory_gb: Optional[float] = setting(None, "memory of a job in GB; null leaves the cluster's choice", above=0)
    setup: list[str] = setting([], "shell commands before each job, such as `module load cuda`")
    extra: Any = setting({}, "further parameters of sbatch by name, such as qos or constraint")
    poll: float = setting(5.0, "seconds between two looks at the queue", above=0)
