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
