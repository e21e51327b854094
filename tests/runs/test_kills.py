"""SIGKILL of real processes: whatever the moment, the same command ends with the same weights, optimizer state and record."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import mortal
from tests.runs.conftest import rows_of
from tofro.runs.checkpoint_io import newest_intact

Train = Callable[[str], Path]

KILLS = [  # (method, moment, step); a checkpoint is made every 3rd step, an evaluation every 4th, 12 steps in all
    ("pretrain", "before a step", 7),
    ("pretrain", "half a state", 6),
    ("pretrain", "before the rename", 9),
    ("two_way", "in an evaluation", 8),
    ("two_way", "half a row", 7),
]
MORE_KILLS = [
    ("pretrain", "before a step", 1),
    ("pretrain", "before an update", 5),
    ("pretrain", "after an update", 6),
    ("pretrain", "before a snapshot", 6),
    ("pretrain", "before the manifest", 6),
    ("pretrain", "after the manifest", 9),
    ("pretrain", "after the rename", 9),
    ("pretrain", "half forgotten", 3),
    ("pretrain", "in an evaluation", 12),
    ("pretrain", "before the evaluation's row", 4),
    ("two_way", "before a step", 8),
    ("two_way", "before an update", 9),
    ("two_way", "half a state", 12),
    ("two_way", "after the rename", 12),
    ("two_way", "before the choice of weights", 8),
]
assert len(KILLS) + len(MORE_KILLS) == 20


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Return the folder of a method's undisturbed run, made once."""
    place = tmp_path_factory.mktemp("undisturbed")

    def folder(method: str) -> Path:
        if not (place / method).exists():
            assert mortal.process(mortal.train, method, place / method) == 0
        return place / method

    return folder


def state_of(folder: Path) -> dict[str, Any]:
    """Return all that counts: the chosen weights, the newest checkpoint without its clock, the record without its times."""
    newest = newest_intact(folder / "checkpoints")
    assert newest is not None
    checkpoint = torch.load(newest / "state.ckpt", weights_only=True)
    return {
        **{name: checkpoint[name] for name in ("global_step", "state_dict", "optimizer_states", "lr_schedulers")},
        "choice": checkpoint["callbacks"]["Selection"],
        "weights": torch.load(folder / "weights.pt", weights_only=True),
        "rows": rows_of(folder),
    }


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Return the names of what two nested states do not share bit for bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict):
        found = [] if one.keys() == other.keys() else [name]
        return found + [each for key in one.keys() & other.keys() for each in differences(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, list | tuple) and len(one) == len(other):
        return [each for place in range(len(one)) for each in differences(one[place], other[place], f"{name}/{place}")]
    return [] if one == other else [name]


@pytest.mark.parametrize(
    ("method", "moment", "step"), [*KILLS, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE_KILLS)]
)
def test_a_killed_process_loses_nothing(undisturbed: Train, tmp_path: Path, method: str, moment: str, step: int) -> None:
    expected, folder = undisturbed(method), tmp_path / method
    if (expected.parent / "stores").exists():
        shutil.copytree(expected.parent / "stores", tmp_path / "stores")
    assert mortal.process(mortal.train, method, folder, moment, step) == -signal.SIGKILL
    assert not (folder / "weights.pt").exists()
    assert mortal.process(mortal.train, method, folder) == 0
    assert differences(state_of(expected), state_of(folder)) == []


@pytest.mark.slow
def test_many_kills_of_one_run_lose_nothing(undisturbed: Train, tmp_path: Path) -> None:
    folder = tmp_path / "pretrain"
    for moment, step in (
        ("before a step", 2),
        ("half a state", 3),
        ("before an update", 4),
        ("in an evaluation", 4),
        ("after the rename", 6),
        ("half a row", 7),
        ("in an evaluation", 8),
        ("in an evaluation", 12),
    ):
        assert mortal.process(mortal.train, "pretrain", folder, moment, step) == -signal.SIGKILL
    assert mortal.process(mortal.train, "pretrain", folder) == 0
    assert differences(state_of(undisturbed("pretrain")), state_of(folder)) == []


def test_the_comparison_sees_one_bit(undisturbed: Train) -> None:
    one, other = state_of(undisturbed("pretrain")), state_of(undisturbed("pretrain"))
    assert differences(one, other) == []
    assert len(one["rows"]) == mortal.STEPS + mortal.STEPS // mortal.EVALUATE_EVERY
    moment = other["optimizer_states"][0]["state"][0]["exp_avg"].view(-1)
    moment[0] = torch.nextafter(moment[0], torch.tensor(1.0))
    other["rows"][3]["train/loss"] += 1e-12
    assert sorted(differences(one, other)) == ["/optimizer_states/0/state/0/exp_avg", "/rows/3/train/loss"]
    json.dumps(one["rows"], allow_nan=False)
