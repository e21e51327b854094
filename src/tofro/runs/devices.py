"""Where a run's processes compute: one device each, in a group that exists already.

In: the trainer's settings. Out: the arguments of Lightning's Trainer that say so. Lightning starts no process here: ranks come
from launch.py, torchrun or srun (contract 9).
"""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning_fabric.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy

from tofro.runs import ranks
from tofro.runs.launch import LAUNCHER
from tofro.runs.settings import TrainerSettings


class Joined(ClusterEnvironment):
    """Tells Lightning the ranks that have joined (ranks.py). Every rank names its one device, so its place among them is 0."""

    @property
    def creates_processes_externally(self) -> bool:
        """Ranks are there; Lightning is to start none."""
        return True

    @property
    def main_address(self) -> str:
        """Not asked: the group exists."""
        raise AssertionError("the group of ranks has been joined before")

    @property
    def main_port(self) -> int:
        """Not asked: the group exists."""
        raise AssertionError("the group of ranks has been joined before")

    @staticmethod
    def detect() -> bool:
        """Never chosen by Lightning itself."""
        return False

    def world_size(self) -> int:
        """Return the number of ranks."""
        return ranks.world_size()

    def set_world_size(self, size: int) -> None:
        """Lightning's own count: it agrees, or something is wrong."""
        assert size == ranks.world_size()

    def global_rank(self) -> int:
        """Return this process' rank."""
        return ranks.rank()

    def set_global_rank(self, rank: int) -> None:
        """Lightning works it out from nodes and devices; the group knows better."""

    def local_rank(self) -> int:
        """Return the place of this process' device in the list of one."""
        return 0

    def node_rank(self) -> int:
        """Return the number of the node, one for each rank."""
        return ranks.rank()


def placement(settings: TrainerSettings, unused_parameters: bool = False) -> dict[str, Any]:
    """Return accelerator, devices and strategy for Lightning's Trainer.

    ``unused_parameters`` says that some parameters have no gradient at some steps. Buffers are not sent around: no module here
    changes any in training.
    """
    if ranks.world_size() == 1:
        return {"accelerator": settings.accelerator, "devices": 1}
    strategy = DDPStrategy(
        cluster_environment=Joined(),
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        find_unused_parameters=unused_parameters,
    )
    index = device_index(settings)
    kind = {"accelerator": "cpu", "devices": 1} if index is None else {"accelerator": "gpu", "devices": [index]}
    return {**kind, "strategy": strategy, "num_nodes": ranks.world_size()}


def device_index(settings: TrainerSettings) -> int | None:
    """Return which of the visible GPUs is this rank's, None on the CPU. ValueError where there are fewer than ranks."""
    here, count = ranks.place(), torch.cuda.device_count()
    if here is None or settings.accelerator == "cpu" or (settings.accelerator == "auto" and count == 0):
        return None
    if count == 1 and LAUNCHER not in os.environ:  # srun shows each task its own
        return 0
    if here.local_rank >= count:
        raise ValueError(f"trainer.devices: this machine has {count} GPUs, fewer than ranks; start one rank for each")
    return here.local_rank
