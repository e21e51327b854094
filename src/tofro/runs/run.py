"""One run: from a composed config to a folder with a result. Asked again, a finished run answers; an unfinished one resumes.

In: a sealed config. Out: :class:`Result`. Torch is imported only once there is something to compute.
"""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tofro.config.identity import Identity, data_name, identity
from tofro.runs.folder import Result, check_identity, environment, locked, machine, read_result, versions, write_json
from tofro.runs.signals import listening
from tofro.text.fingerprint import fingerprint_path
from tofro.text.pydoc import fingerprint_pydoc


def run(config: DictConfig, overrides: list[str]) -> Result:
    """Carry the run out, or return its result where it is finished.

    ``overrides`` are what the user typed; they go into the record, not into the identity. ValueError for every mistake of the
    user; ``signals.Stopped`` at a stop signal, after what was computed is saved.
    """
    who = identify(config)
    folder = outputs_of(config) / who.name
    data = read_result(folder)
    if data is not None:
        check_identity(folder, who.full)
        return Result(folder, data, reused=True)
    existed = folder.exists()
    with locked(folder), listening():
        check_identity(folder, who.full)
        data = read_result(folder)
        if data is not None:  # another process has finished it in the meantime
            return Result(folder, data, reused=True)
        try:
            return Result(folder, _carry_out(config, overrides, who, folder))
        except ValueError:
            if not existed:
                _leave_nothing(folder)
            raise


def identify(config: DictConfig, planned: Mapping[str, str] | None = None) -> Identity:
    """Return the run's identity. ``planned`` maps folders of runs that a study has yet to make to their ids."""

    def fingerprint(what: str) -> str:
        if what == "pydoc":
            return _installed_text()
        if planned and what in planned:
            return planned[what]
        return fingerprint_path(Path(what), cache_of(config))

    return identity(config, fingerprint)


@lru_cache(maxsize=1)
def _installed_text() -> str:
    """Return the built-in text's fingerprint; what is installed does not change under a running process."""
    return fingerprint_pydoc()


def outputs_of(config: DictConfig) -> Path:
    """Return the folder that holds the run's folder."""
    return Path(config.outputs_dir).expanduser().resolve() / (config.study or "runs")


def cache_of(config: DictConfig) -> Path:
    """Return the folder of what runs share: token stores, tokenizers, fingerprints, measures of starting points."""
    return Path(config.outputs_dir).expanduser().resolve() / "cache"


def _carry_out(config: DictConfig, overrides: list[str], who: Identity, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    OmegaConf.save(config, folder / "config.yaml")
    write_json(folder / "identity.json", who.full)
    write_json(folder / "environment.json", environment())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        from tofro.runs.methods import carry_out  # torch and Lightning come with it

        outcome = carry_out(config, folder)
    data = {
        "id": who.id,
        "folder": folder.name,
        "study": config.study or "runs",
        "stage": config.stage,
        "method": config.method.name,
        "variant": outcome.variant,
        "task": data_name(config.task) if "task" in config.method.reads else None,
        "corpus": data_name(config.corpus) if "corpus" in config.method.reads else None,
        "seed": config.seed,
        "score": outcome.score,
        "metrics": outcome.metrics,
        "cost": {"seconds": round(time.monotonic() - started, 3), **outcome.cost},
        "lineage": outcome.lineage,
        "config": who.full,
        "data": outcome.data,
        "versions": versions(),
        "machine": machine(),
        "command": shlex.join(["tofro", "run", *overrides]),
        "notes": [*outcome.notes, *sorted({str(warning.message) for warning in caught if _for_users(warning)})],
    }
    write_json(folder / "result.json", data)
    return data


def _for_users(warning: warnings.WarningMessage) -> bool:
    """Say whether a warning is tofro's own."""
    return "tofro" in Path(warning.filename).parts


def _leave_nothing(folder: Path) -> None:
    """Remove a folder that a refused run made, if nothing was computed in it."""
    record = folder / "metrics.jsonl"
    if (folder / "checkpoints").exists() or (record.exists() and record.stat().st_size):
        return
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
