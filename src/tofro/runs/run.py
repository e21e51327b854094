"""One run: from a composed config to a folder with a result. Asked again, a finished run answers; an unfinished one resumes.

In: a sealed config. Out: :class:`Result`. Torch is imported only once there is something to compute, or ranks to agree with.
"""

from __future__ import annotations

import shlex
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tofro.config.identity import Identity, data_name, identity
from tofro.runs import ranks
from tofro.runs.compare import compare
from tofro.runs.folder import Result, check_identity, environment, locked, machine, read_result, versions, write_json
from tofro.runs.hub import locate
from tofro.runs.launch import launch, planned_ranks, trains
from tofro.runs.signals import listening
from tofro.text.fingerprint import fingerprint_path
from tofro.text.pydoc import fingerprint_pydoc


def run(config: DictConfig, overrides: list[str]) -> Result:
    """Carry the run out, or return its result where it is finished; with trainer.devices above 1, in as many ranks.

    ``overrides`` are what the user typed; they go into the record, not into the identity. ValueError for every mistake of the
    user; ``signals.Stopped`` at a stop signal, after what was computed is saved. Under torchrun or srun every rank calls this;
    all but the first end when training does.
    """
    if ranks.place() is not None:
        return _run_joined(config, overrides)
    who = identify(config)
    folder = outputs_of(config) / who.name
    data = _finished(folder, who)
    if data is not None:
        return Result(folder, data, reused=True)
    count = planned_ranks(config)
    with _held(folder):
        data = _finished(folder, who)
        if data is not None:  # another process has finished it in the meantime
            return Result(folder, data, reused=True)
        _begin(folder, config, who)
        if count == 1:
            return Result(folder, _carry_out(config, overrides, who, folder))
        launch(folder, count, config.trainer.threads, overrides)
        data = read_result(folder)
        assert data is not None, "the ranks ended well and left no result"
        return Result(folder, data)


def run_launched(config: DictConfig, overrides: list[str], folder: Path) -> None:
    """Do this rank's part of the run in ``folder``, which the launcher holds."""
    ranks.join()
    with listening():
        _carry_out(config, overrides, _agreed(config), folder)


def _run_joined(config: DictConfig, overrides: list[str]) -> Result:
    """Do this rank's part of a run whose ranks torchrun or srun has started."""
    ranks.join()
    who = _agreed(config)
    folder = outputs_of(config) / who.name
    with listening(), ExitStack() as held:
        data = None
        with ranks.told():
            if ranks.is_first():
                data = _finished(folder, who)
                if data is None:
                    planned_ranks(config)
                    held.enter_context(_held(folder))
                    _begin(folder, config, who)
        data = ranks.from_first(data)
        if data is not None:
            ranks.leave()
            return Result(folder, data, reused=True)
        if not trains(config):
            ranks.leave_to_first()
        return Result(folder, _carry_out(config, overrides, who, folder))


def _agreed(config: DictConfig) -> Identity:
    """Return the first rank's identity of the run, once all have found that theirs is the same."""
    with ranks.told():
        if ranks.is_first():
            identify(config)  # reads every file; the others on this machine find its hashes kept
    with ranks.told():
        who = identify(config)
    compare(config, who)
    return ranks.from_first(who)


def _finished(folder: Path, who: Identity) -> dict[str, Any] | None:
    """Return the result that ``folder`` holds, None where there is none yet."""
    check_identity(folder, who.full)
    return read_result(folder)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the run's folder; a run that is refused leaves none behind."""
    existed = folder.exists()
    with locked(folder), listening():
        try:
            yield
        except ValueError:
            if not existed:
                _leave_nothing(folder)
            raise


def _begin(folder: Path, config: DictConfig, who: Identity) -> None:
    """Write what the run is made of."""
    OmegaConf.save(config, folder / "config.yaml")
    write_json(folder / "identity.json", who.full)
    write_json(folder / "environment.json", environment(config.trainer.threads))


def identify(config: DictConfig, planned: Mapping[str, str] | None = None) -> Identity:
    """Return the run's identity. ``planned`` maps folders of runs that a study has yet to make to their ids."""

    def fingerprint(what: str) -> str:
        if what == "pydoc":
            return _installed_text()
        if planned and what in planned:
            return planned[what]
        return fingerprint_path(Path(what), cache_of(config))

    return identity(config, fingerprint, locate)


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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        from tofro.runs.methods import carry_out  # torch and Lightning come with it

        outcome = carry_out(config, folder)
    # Where another run trained, its training is part of what this result costs.
    before = outcome.cost["train_seconds"] if outcome.lineage.get("trained_by") else 0.0
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
        "cost": {"seconds": round(time.monotonic() - started + before, 3), **outcome.cost},
        "lineage": outcome.lineage,
        "config": who.full,
        "data": outcome.data,
        "versions": versions(),
        "machine": machine(),
        "command": shlex.join(["tofro", "run", *overrides]),
        "notes": [*outcome.notes, *sorted({str(warning.message) for warning in caught if _for_users(warning)})],
    }
    write_json(folder / "result.json", data)
    if not config.trainer.keep_checkpoints:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # three quarters of a run's folder, for a resume alone
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
