"""What ranks say to one another, in real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.ranks import start, together
from tofro.runs import ranks

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "2950"}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_") or name in TORCHRUN]:
        monkeypatch.delenv(name)


def test_alone_every_word_is_the_identity() -> None:
    ranks.join()
    assert (ranks.rank(), ranks.world_size(), ranks.is_first()) == (0, 1, True)
    assert ranks.largest([1.0, -2.0]) == ranks.total([1.0, -2.0]) == [1.0, -2.0]
    assert ranks.from_first("a") == "a"
    assert ranks.everyone("a") == ["a"]
    with ranks.first_alone():
        ranks.wait()
    ranks.leave()


def test_torchrun_gives_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert ranks.place() == ranks.Place(3, 4, 1, "10.0.0.1", 2950)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks.place() is None


def test_srun_gives_a_place_and_a_batch_script_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "n[3-4]"}
    for name, value in batch.items():
        monkeypatch.setenv(name, value)
    assert ranks.place() is None
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    first = ranks.place()
    assert first is not None
    assert (first.rank, first.size, first.local_rank, first.address) == (3, 4, 1, "n3")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    second = ranks.place()
    assert second is not None
    assert second.port != first.port, "two steps of a job would meet at one port"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert ranks.place() is None


def _words() -> dict[str, object]:
    mine = ranks.rank()
    return {
        "rank": (mine, ranks.world_size(), ranks.is_first()),
        "largest": ranks.largest([float(mine), -float(mine)]),
        "total": ranks.total([1.0, float(mine)]),
        "first": ranks.from_first({"minutes": mine}),
        "everyone": ranks.everyone(mine),
    }


def test_two_ranks_agree() -> None:
    first, second = together(2, _words)
    assert (first.pop("rank"), second.pop("rank")) == ((0, 2, True), (1, 2, False))
    assert first == second == {"largest": [1.0, 0.0], "total": [2.0, 1.0], "first": {"minutes": 0}, "everyone": [0, 1]}


def _build_alone(folder: Path) -> bool:
    with ranks.first_alone():
        found = (folder / "built").exists()
        if not found:
            time.sleep(0.3)
            (folder / "built").touch()
    return found


def test_the_first_builds_alone_and_the_others_find_it(tmp_path: Path) -> None:
    assert together(2, _build_alone, tmp_path) == [False, True]


def _fail_alone() -> None:
    with ranks.first_alone():
        raise ValueError("no such corpus")


def test_the_others_leave_quietly_where_the_first_fails() -> None:
    processes, _ = start(2, _fail_alone)
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [1, ranks.REFUSED]


def _sleep(folder: Path) -> None:
    (folder / str(ranks.rank())).touch()
    time.sleep(300)


def test_a_rank_left_behind_ends(tmp_path: Path) -> None:
    processes, _ = start(2, _sleep, tmp_path)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
    os.kill(processes[1].pid, signal.SIGKILL)
    began = time.monotonic()
    processes[0].join(20)
    assert processes[0].exitcode is not None, "it waits for a dead rank"
    assert time.monotonic() - began < 10
