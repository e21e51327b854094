"""Trackers as views of metrics.jsonl. wandb works without an account: offline by itself where no key is known, never a prompt.

In: :class:`LoggerSettings`, the run's config and folder. Out: a Lightning logger that the recorder hands every row to. Sent are
the rows and the run's identity; not the command line, the code or the environment.
"""

from __future__ import annotations

import json
import netrc
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, WandbLogger

from tofro.runs.settings import LoggerSettings


def wandb(settings: LoggerSettings, config: DictConfig, folder: Path) -> Logger:
    """Return a wandb logger for one run: its own run on the tracker, grouped by study, with the run folder's name."""
    import wandb as library

    offline = settings.mode == "offline" or (settings.mode == "auto" and not has_key())
    options = library.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )
    return WandbLogger(
        name=folder.name,
        project=settings.project,
        save_dir=folder,
        offline=offline,
        group=config.study or "runs",
        job_type=config.method.name,
        config=json.loads((folder / "identity.json").read_text(encoding="utf-8")),
        reinit="finish_previous",
        settings=options,
        resume="allow",
        id=folder.name,
    )


def close(logger: Logger, failed: bool) -> None:
    """End the tracker's run, marked failed where the fit raised."""
    if isinstance(logger, WandbLogger):
        experiment: Any = logger.experiment
        experiment.finish(exit_code=1 if failed else 0)


def has_key() -> bool:
    """Say whether a wandb key is at hand, without asking the library, which would prompt."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
