"""Several runs at a time: warm workers share out the machine, a dead one costs its run alone, and none outlives its driver."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import descendants, is_alive
from tests.runs import stand_in
from tests.runs.conftest import WriteStudy
from tofro.runs import local
from tofro.runs import run as running
from tofro.runs.folder import read_result
from tofro.runs.jobs import HELD, Ending, Jobs
from tofro.runs.planning import Planned
from tofro.runs.study import plan, read_study, run_study

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes under /proc")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers be those of stand_in.py, whose runs compute nothing."""
    monkeypatch.setattr(local, "MODULE", "tests.runs.stand_in")


def seeds(*numbers: int) -> dict[str, Any]:
    """Return stages: a pretraining and a fine-tuning for each seed."""
    adapt = {"init_from": "pretrain", "overrides": ["budget.steps=4"], "grid": {"method": ["full"], "seed": list(numbers)}}
    return {"stages": {"pretrain": {"overrides": ["method=pretrain", "budget.steps=6"]}, "adapt": adapt}}


def results(folder: Path) -> dict[int, Any]:
    """Return the results of the study's fine-tuned runs by seed, None for one that is not there."""
    return {run.config.seed: read_result(run.folder) for run in plan(read_study(folder), []) if run.stage == "adapt"}


def journal(folder: Path) -> Counter[str]:
    """Return how often each run came to its end."""
    file = folder.parent / "outputs" / "journal"
    return Counter(file.read_text(encoding="utf-8").split() if file.exists() else [])


def drive(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a process that carries out a study by two workers that compute nothing."""
    words = [sys.executable, "-m", "tests.runs.stand_in", "drive", str(folder), "launcher.workers=2", *overrides]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def until(there: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait until ``there()`` is true and return it."""
    deadline = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.mark.usefixtures("quick")
def test_workers_stay_warm_and_share_out_the_machine(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(local, "usable_cores", lambda: 9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    folder = write_study(**seeds(*range(6)))
    assert run_study(folder, ["launcher.workers=2"])[1:] == (0, 7)
    made = [result["worker"] for result in results(folder).values()]
    assert len({worker["pid"] for worker in made}) == 2
    assert {(worker["OMP_NUM_THREADS"], worker["CUDA_VISIBLE_DEVICES"]) for worker in made} == {("4", "0,1"), ("4", "2,3")}
    assert set(journal(folder).values()) == {1}
    err = capfd.readouterr().err
    assert [line.split()[0] for line in err.splitlines()[1:]] == [f"[{number}/7]" for number in range(1, 8)]
    assert "at work" not in err  # what runs print lies in files
    logs = list((folder.parent / "outputs" / "small_study" / "logs").iterdir())
    assert len(logs) == 7
    assert all("at work" in log.read_text(encoding="utf-8") for log in logs)


@pytest.mark.usefixtures("quick")
def test_a_worker_that_dies_fails_its_run_alone(write_study: WriteStudy, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_study(**seeds(0, stand_in.KILLED, stand_in.REFUSED, stand_in.BROKEN, 1, 2, 3))
    assert run_study(folder, ["launcher.workers=2"])[1:] == (3, 5)
    err = capfd.readouterr().err
    assert "failed: its process was killed (SIGKILL), perhaps for want of memory" in err
    assert "failed: _target_=os.system is not allowed" in err
    assert "RuntimeError: a bug" in err
    left = [seed for seed, result in results(folder).items() if result is None]
    assert left == [stand_in.KILLED, stand_in.REFUSED, stand_in.BROKEN]
    assert run_study(folder, ["launcher.workers=2"])[1:] == (2, 1)  # the one that was killed is made this time
    assert set(journal(folder).values()) == {1}


def test_a_study_waits_for_a_run_that_another_process_makes(
    write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(**seeds(0, 1))
    (start, *_) = plan(read_study(folder), [])
    start.folder.mkdir(parents=True)
    script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    words, end = [sys.executable, "-c", script, str(start.folder / ".lock")], Jobs.end
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()

        def release(self: Jobs, run: Planned, ending: Ending) -> None:
            end(self, run, ending)
            if ending.kind == HELD:
                other.communicate()

        monkeypatch.setattr(running, "_carry_out", stand_in.carry_out)
        monkeypatch.setattr(Jobs, "end", release)
        assert run_study(folder, [])[1:] == (0, 3)
    assert "another process is making it; waiting for that" in capfd.readouterr().err


@linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)])
def test_a_stop_signal_reaches_the_runs_which_save(write_study: WriteStudy, number: int, code: int) -> None:
    folder = write_study(**seeds(0, stand_in.ENDLESS, 1))
    driver = drive(folder)
    outputs = folder.parent / "outputs" / "small_study"
    until(lambda: list(outputs.glob(f"full-*-s{stand_in.ENDLESS}-*/begun")))
    family = descendants(driver.pid)
    driver.send_signal(number)
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == code, err
    assert " to save what they have" in err
    assert len(list(outputs.glob(f"full-*-s{stand_in.ENDLESS}-*/saved"))) == 1
    assert not any(is_alive(pid) for pid in family)


@linux
@pytest.mark.parametrize(("jobs", "kills"), [(11, 3), pytest.param(30, 20, marks=pytest.mark.slow)])
def test_a_killed_driver_leaves_no_worker_and_loses_and_repeats_nothing(write_study: WriteStudy, jobs: int, kills: int) -> None:
    draw = random.Random(jobs)
    folder = write_study(**seeds(*range(jobs - 1)))
    outputs = folder.parent / "outputs" / "small_study"
    seen: dict[Path, tuple[int, int]] = {}
    for number in range(kills):
        driver, before = drive(folder), len(journal(folder))
        if number % 4:  # three in four while runs are made, the others at any moment
            until(lambda: len(journal(folder)) > before or driver.poll() is not None, 120)  # noqa: B023
        time.sleep(draw.uniform(0, 0.2 if number % 4 else 2))
        family = descendants(driver.pid)
        driver.kill()
        driver.communicate()
        until(lambda: not any(is_alive(pid) for pid in family), 10)  # noqa: B023
        for result in outputs.glob("*/result.json"):
            stamp = (result.stat().st_ino, result.stat().st_mtime_ns)
            assert seen.setdefault(result, stamp) == stamp
    driver = drive(folder)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    assert len(list(outputs.glob("*/result.json"))) == jobs
    assert set(journal(folder).values()) == {1}
    assert all((path.stat().st_ino, path.stat().st_mtime_ns) == stamp for path, stamp in seen.items())


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("0,1,2", 2, ["0", "1"]),
        ("4", 3, ["4", "4", "4"]),
        ("", 2, [None, None]),
        ("-1", 2, [None, None]),
        ("GPU-a,GPU-b", 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch, given: str, count: int, expected: list[str | None]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert [share.get("CUDA_VISIBLE_DEVICES") for share in local.shares(count)] == expected


def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g'\necho 'GPU 1: B (UUID: y)'\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local.visible_gpus() == ["0", "1"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert local.visible_gpus() == []
    monkeypatch.setenv("PATH", "")
    assert local.visible_gpus() == []


def test_cores_that_the_user_has_given_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert local.shares(2) == [{}, {}]
