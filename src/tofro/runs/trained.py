"""Training that another run has done: who differs from a finished run in what is measured alone takes its models.

In: a run's context and the module that would be trained. Out: the module with the weights of that run, its record of steps beside
this run's, and its :class:`~tofro.runs.fit.FitReport`. The parts of an identity that bear on training must be equal, and every
tensor must have its place; where anything is amiss the run trains. Leaves out runs that are finished as they are (run.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tofro.encoders.folder import load_model
from tofro.modules.base import TransferModule
from tofro.runs import ranks
from tofro.runs.context import Context
from tofro.runs.fit import FitReport
from tofro.runs.folder import kept_identity, read_result

MEASURING = frozenset(  # keys of `method` that ask something of models which have trained, and leave the training alone
    f"method.{key}"
    for key in (
        *("measure", "measure_ft", "train_score", "split", "probes", "probe_rows", "test_rows", "tasks", "corpora", "sentences"),
        *("pseudo_log_likelihood", "few_shot", "few_shot_draws", "few_shot_steps", "few_shot_lr", "few_shot_splits"),
    )
)

COST = ("steps", "tokens", "flops", "checkpoint_seconds", "waiting_seconds", "peak_memory_mb")  # called so in FitReport as well


def take_trained(context: Context, module: TransferModule) -> FitReport | None:
    """Give ``module`` the weights of the finished run that trained as this one would; None where there is none.

    It lies under the run's outputs_dir, whichever study made it, and keeps its models and ``metrics.jsonl``, which comes along.
    ``context.trained_by`` is then its id.
    """
    found = ranks.from_first(_find(context, module) if ranks.is_first() else None)
    if found is None:
        return None
    for name, weights in _weights(found, module).items():
        module.model(name).load_state_dict(weights)
    if ranks.is_first():
        shutil.copyfile(found / "metrics.jsonl", context.folder / "metrics.jsonl")
    result = read_result(found)
    assert result is not None, "it was finished a moment ago"
    context.trained_by = result["id"]
    return _report(result)


def _find(context: Context, module: TransferModule) -> Path | None:
    own = kept_identity(context.folder)
    if own is None or (context.folder / "checkpoints").exists():  # it has begun to train itself
        return None
    alike = f"*/{context.folder.name.rpartition('-')[0]}-*"  # method, data and seed
    for folder in sorted(context.cache.parent.glob(alike)):
        if folder != context.folder and _trained_alike(folder, own) and _fits(folder, module):
            return folder
    return None


def _trained_alike(folder: Path, own: Mapping[str, Any]) -> bool:
    try:
        other, result = kept_identity(folder), read_result(folder)
    except ValueError:  # damaged
        return False
    if other is None or result is None or not {*COST, "train_seconds"} <= result["cost"].keys():  # of an older tofro
        return False
    return _training(other) == _training(own)


def _training(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key not in MEASURING}


def _fits(folder: Path, module: TransferModule) -> bool:
    """Say whether the run keeps its record, and models with every tensor of the module's and no other."""
    if not (folder / "metrics.jsonl").is_file():
        return False
    try:
        weights = _weights(folder, module)
    except (ValueError, OSError):  # removed, or damaged
        return False
    return all(_shapes(weights[name]) == _shapes(module.model(name).state_dict()) for name in module.models)


def _weights(folder: Path, module: TransferModule) -> dict[str, Mapping[str, Tensor]]:
    return {name: load_model(folder / "models" / name).model.state_dict() for name in module.models}


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: (weight.shape, weight.dtype) for name, weight in weights.items()}


def _report(result: Mapping[str, Any]) -> FitReport:
    """Return what the training took then."""
    best_step, cost = result["metrics"]["train/best_step"], result["cost"]
    spent = {name: cost[name] for name in COST}
    return FitReport(best_step=best_step, best_value=None, seconds=cost["train_seconds"], **spent)  # no result keeps the value
