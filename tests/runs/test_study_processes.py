"""Whole studies in processes of their own, with runs that compute: killed at random moments, and over several ranks."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.ranks import descendants, is_alive, tofro
from tests.runs.conftest import WriteStudy
from tofro.reports.report import report
from tofro.runs.folder import read_result, write_json
from tofro.runs.study import plan, read_study

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes under /proc")
SHORT = ["method=full", "budget.steps=2", "budget.evaluate_every=1", "method.measure=false"]
POOL = "launcher.workers=2"
KILLS, SEEDS = 20, 14  # 30 jobs: a pretraining, TF-IDF, and for each seed a fine-tuning and a random encoder


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a command and return what it wrote to standard error."""
    _, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    return err


def many(seeds: int, **overrides: str) -> dict[str, Any]:
    """Return the stages of a study of short runs."""
    return {
        "pretrain": {"overrides": ["method=pretrain", "budget.steps=4", "budget.evaluate_every=2"]},
        "adapt": {
            "init_from": "pretrain",
            "overrides": ["budget.steps=4", "budget.evaluate_every=2", "method.measure=false", "trainer.checkpoint_every=1"],
            "grid": {"method": ["full"], "seed": list(range(seeds))},
        },
    }


def results_of(folder: Path, *overrides: str) -> dict[str, Any]:
    """Return the metrics of all runs of a study by name."""
    found = {}
    for run in plan(read_study(folder), list(overrides)):
        result = read_result(run.folder)
        assert result is not None, run.identity.name
        found[run.identity.name] = result["metrics"]
    return found


def at_work(outputs: Path, began: float, driver: subprocess.Popen[str]) -> None:
    """Wait until a run has been begun, or gone on with, since ``began``, or all are finished."""
    while driver.poll() is None:
        if any(path.stat().st_mtime > began for path in outputs.glob("*/*/environment.json")):
            return
        time.sleep(0.05)


def end_within(seconds: float, family: list[int]) -> None:
    """Assert that processes end by themselves in so many seconds."""
    until = time.monotonic() + seconds
    while any(is_alive(process) for process in family):
        assert time.monotonic() < until, "an orphan"
        time.sleep(0.05)


def table_of(place: Path) -> str:
    """Return the tables of a study as Markdown, all costs alike."""
    for path in place.glob("*/result.json"):
        result = read_result(path.parent)
        assert result is not None
        write_json(path, result | {"cost": dict.fromkeys(result["cost"], 1.0)})
    return report([place], console=Console(quiet=True)).markdown


@linux
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_driver_killed_at_twenty_random_moments_does_each_job_once(
    write_study: WriteStudy, tmp_path: Path, workers: int
) -> None:
    draw = random.Random(workers)
    folder = write_study(stages=many(SEEDS), floors=True)
    words = ["study", str(folder), f"launcher.workers={workers}", "trainer.threads=1"]
    jobs = 2 + 2 * SEEDS
    assert len(plan(read_study(folder), [])) == jobs
    whole, disturbed = (f"outputs_dir={tmp_path / name}" for name in ("whole", "disturbed"))
    finish(tofro(*words, whole))
    stamps: dict[Path, tuple[int, int]] = {}
    done = []
    for number in range(KILLS):
        began, driver = time.time(), tofro(*words, disturbed)
        if number % 4:  # three in four while runs are made, the others before
            at_work(tmp_path / "disturbed", began, driver)
        time.sleep(draw.uniform(0, 4 if workers > 1 else 10))  # a single driver imports the stack itself before its first run
        family = descendants(driver.pid)
        driver.kill()
        driver.communicate()
        end_within(5, family)
        for path in (tmp_path / "disturbed").glob("*/*/result.json"):
            stamp = path.stat().st_ino, path.stat().st_mtime_ns
            assert stamps.setdefault(path, stamp) == stamp, f"{path} was made twice"
        done.append(len(stamps))
    print(f"finished after each kill: {done}")
    assert done[-1] > 0
    finish(tofro(*words, disturbed))
    assert all((path.stat().st_ino, path.stat().st_mtime_ns) == stamp for path, stamp in stamps.items())
    assert results_of(folder, disturbed) == results_of(folder, whole)
    assert len(list((tmp_path / "disturbed").glob("small_study/*/result.json"))) == jobs
    tables = [table_of(tmp_path / name / "small_study") for name in ("disturbed", "whole")]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_two_ranks_by_six_jobs_in_turn_and_in_a_pool(write_study: WriteStudy, tmp_path: Path) -> None:
    folder = write_study(stages=many(5))
    found = []
    for name, more in (("one", []), ("turn", ["trainer.devices=2"]), ("pool", ["trainer.devices=2", POOL])):
        outputs = f"outputs_dir={tmp_path / name}"
        finish(tofro("study", str(folder), outputs, "method.dropout=0", *more))
        found.append(results_of(folder, outputs, "method.dropout=0"))
        folders = [path for path in (tmp_path / name / "small_study").iterdir() if (path / "config.yaml").exists()]
        assert len(folders) == 6
        assert all(("trainer.devices=2" in result["command"]) is bool(more) for path in folders if (result := read_result(path)))
    one, turn, pool = found
    assert one.keys() == turn.keys() == pool.keys()  # one identity, whatever the ranks; ranks that differ stop (runs/compare.py)
    for name, metrics in one.items():
        assert turn[name] == pytest.approx(metrics, abs=1e-4)
        assert pool[name] == pytest.approx(turn[name], abs=1e-6)


@pytest.mark.slow
@linux
def test_a_pool_of_ranks_ends_with_its_driver(write_study: WriteStudy, tmp_path: Path) -> None:
    stages = many(2)
    stages["adapt"]["overrides"] = ["budget.steps=5000", "method.measure=false"]
    folder = write_study(stages=stages)
    driver = tofro("study", str(folder), "trainer.devices=2", POOL)
    until = time.monotonic() + 120
    while len(list((tmp_path / "outputs" / "small_study").glob("full-*/metrics.jsonl"))) < 2:
        assert time.monotonic() < until
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.1)
    family = descendants(driver.pid)
    assert len(family) >= 6  # two workers, two ranks each
    driver.kill()
    driver.communicate()
    end_within(10, family)


@pytest.mark.slow
def test_short_jobs_cost_two_seconds_at_most(write_study: WriteStudy, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a measure, which a busy machine would spoil: see benchmarks/study.py. This notes a worker that no longer stays warm."""
    folder = write_study(stages={"short": {"overrides": SHORT, "grid": {"seed": list(range(12))}}})
    err = finish(tofro("study", str(folder), POOL))
    took = [float(found) for found in re.findall(r"^\[\d+/12\] \S+: ([\d.]+) s", err, re.MULTILINE)]
    assert len(took) == 12
    assert sorted(took)[6] < 2
