"""Runs in several ranks, as users start them: one command, torchrun, srun; and what becomes of them when processes die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import small_run
from tests.ranks import descendants, in_turn, is_alive, tofro, together, torchrun
from tofro.config.compose import compose
from tofro.runs import ranks
from tofro.runs.launch import explain, planned_ranks
from tofro.runs.ranks import RankFailed
from tofro.runs.run import run
from tofro.runs.signals import Stopped

SHORT = ["method=pretrain", "budget.steps=6", "budget.evaluate_every=3"]
LONG = ["method=pretrain", "budget.steps=5000", "budget.evaluate_every=2500", "trainer.log_every=5"]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes under /proc")


def finish(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def the_run(outputs: Path) -> Path:
    (folder,) = (outputs / "runs").iterdir()
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "models" / "pre" / "model.safetensors")


# -- plans and verdicts, without processes ---------------------------------------------------------------------------------------


def test_methods_that_do_not_train_have_one_rank(small: list[str]) -> None:
    for method, count in (("tfidf", 1), ("random_encoder", 1), ("pretrain", 4), ("full", 4)):
        assert planned_ranks(compose([*small, f"method={method}", "trainer.devices=4"])) == count


KILLED, MISTAKE, LATER, EARLIER = (
    (-signal.SIGKILL, {}),
    (2, {"time": 9.0, "mistake": True, "message": "no such file", "traceback": ""}),
    (1, {"time": 8.0, "mistake": False, "message": "x", "traceback": "connection lost"}),
    (1, {"time": 7.0, "mistake": False, "message": "x", "traceback": "KeyError"}),
)


@pytest.mark.parametrize(
    ("failures", "kind", "said"),
    [
        ({0: LATER, 1: KILLED}, RankFailed, "rank 1 was killed"),
        ({0: MISTAKE, 1: (-15, {})}, ValueError, "no such file"),
        ({0: LATER, 1: EARLIER}, RankFailed, "rank 1 failed.*\nKeyError"),
        ({0: (143, {}), 1: (143, {})}, Stopped, "SIGTERM"),
        ({1: (130, {})}, Stopped, "SIGINT"),
        ({0: (-11, {})}, RankFailed, "rank 0 ended with exit code -11"),
    ],
)
def test_one_error_stands_for_all_ranks(failures: dict[int, Any], kind: type[BaseException], said: str) -> None:
    with pytest.raises(kind, match=said):
        raise explain(failures)


# -- two ranks that have joined --------------------------------------------------------------------------------------------------


def joined(overrides: list[str]) -> str:
    """Do what ``tofro run`` does in a rank that torchrun has started; return what came of it."""
    try:
        result = run(compose(overrides), overrides)
    except SystemExit as left:
        return f"left with {left.code}"
    except ValueError as error:
        return str(error)
    return f"{'found' if result.reused else 'made'} {result.folder.name}"


def test_the_first_rank_makes_the_result_and_all_find_it(small: list[str], tmp_path: Path) -> None:
    first, second = together(2, joined, [*small, *SHORT])
    folder = the_run(tmp_path / "outputs")
    assert (first, second) == (f"made {folder.name}", "left with 0")
    assert json.loads((folder / "result.json").read_text())["metrics"]["train/steps"] == 6
    assert together(2, joined, [*small, *SHORT]) == [f"found {folder.name}"] * 2


DIFFERENCES = [  # what each of two ranks adds to the command, and what is said of it
    ([["seed=0"], ["seed=1"]], ["the ranks differ in seed: 0 on rank 0, 1 on rank 1"]),
    ([["trainer.log_every=20"], ["trainer.log_every=10"]], ["trainer.log_every"]),
    ([[], ["corpus.path=elsewhere.txt"]], ["rank 1", "elsewhere.txt"]),
    ([["budget.batch=9"], ["budget.batch=9"]], ["budget.batch=9", "trainer.devices=2"]),
    ([["trainer.num_nodes=3"], ["trainer.num_nodes=3"]], ["trainer.num_nodes=3", "started 2"]),
]


def differing(overrides: list[str]) -> list[str]:
    return [joined([*overrides, *own[ranks.rank()]]) for own, _ in DIFFERENCES]


def test_ranks_that_differ_stop_before_anything_is_made(small: list[str], tmp_path: Path) -> None:
    first, second = together(2, differing, [*small, *SHORT])
    for text, (_, said) in zip(first, DIFFERENCES, strict=True):
        assert all(words in text for words in said)
    assert second == [f"left with {ranks.REFUSED}"] * len(DIFFERENCES)
    assert not (tmp_path / "outputs" / "runs").exists()


# -- commands --------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_command_starts_the_ranks_and_shows_their_result(world: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("def halved(progress, warmup=0, decay=0):\n    return 0.5\n")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    folders = []
    for devices in (1, 2):
        words = [*small_run(world, tmp_path / str(devices)), *SHORT, "schedule._target_=theirs.halved"]
        words.append(f"trainer.devices={devices}")
        code, out, err = finish(tofro("run", *words, "--trust", "theirs", PYTHONPATH=path))
        assert code == 0, err
        assert "finished: " in out
        assert "validation/mlm_loss_pre" in out
        folders.append(the_run(tmp_path / str(devices)))
    one, two = folders
    result = json.loads((two / "result.json").read_text())
    assert "trainer.devices=2" in result["command"]
    assert result["id"] == json.loads((one / "result.json").read_text())["id"]
    assert result["metrics"] == pytest.approx(json.loads((one / "result.json").read_text())["metrics"], abs=1e-5)
    for name, weight in weights_of(two).items():
        torch.testing.assert_close(weight, weights_of(one)[name], atol=1e-5, rtol=0)
    code, out, err = finish(tofro("run", *words, "--trust", "theirs", PYTHONPATH=path))
    assert code == 0, err
    assert "finished before" in out


@pytest.mark.slow
def test_a_mistake_that_a_rank_finds_is_told_once(world: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("One sentence. And another.\n\nA second document. It ends here.\n")
    words = [*small_run(world, tmp_path / "outputs"), *SHORT, f"corpus.path={corpus}", "corpus.validation_share=0.5"]
    code, _, err = finish(tofro("run", *words, "trainer.devices=2"))
    assert code == 2, err
    assert err.count("tofro: ") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "outputs" / "runs").exists() or not list((tmp_path / "outputs" / "runs").iterdir())


@pytest.mark.slow
def test_torchrun_and_srun_join(world: Path, tmp_path: Path) -> None:
    expected = [*small_run(world, tmp_path / "one"), *SHORT]
    assert finish(tofro("run", *expected))[0] == 0
    code, out, err = finish(torchrun(2, "run", *small_run(world, tmp_path / "two"), *SHORT))
    assert code == 0, err
    assert out.count("finished: ") == 1
    steps = {"SLURM_STEP_ID": "0", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "localhost"}
    words = ["run", *small_run(world, tmp_path / "three"), *SHORT]
    tasks = [tofro(*words, **steps, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in range(2)]
    assert [finish(task)[0] for task in tasks] == [0, 0]
    one, two, three = (the_run(tmp_path / name) for name in ("one", "two", "three"))
    for rows in (rows_of(two), rows_of(three)):
        for found, row in zip(rows, rows_of(one), strict=True):
            assert found == pytest.approx(row, abs=1e-5)


@pytest.mark.slow
def test_a_misspelt_key_is_told_once_by_all_ranks(small: list[str]) -> None:
    done = [finish(process) for process in in_turn(2, lambda rank: ["run", *small, "method=pretrain", "budget.stepss=3"])]
    assert [code for code, _, _ in done] == [2, 2]
    assert "".join(err for _, _, err in done).count("did you mean") == 1


@pytest.mark.slow
def test_many_runs_are_refused_in_a_rank(small: list[str]) -> None:
    done = [finish(process) for process in in_turn(2, lambda rank: ["run", "-m", *small, "method=pretrain", "seed=0,1"])]
    assert [code for code, _, _ in done] == [2, 2]
    assert "trainer.devices" in "".join(err for _, _, err in done)


# -- deaths ----------------------------------------------------------------------------------------------------------------------


def trained(outputs: Path, process: subprocess.Popen[str], steps: int) -> Path:
    """Wait until a run has recorded ``steps`` steps; return its folder."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for record in (outputs / "runs").glob("*/metrics.jsonl"):
            if record.read_text().count("\n") >= steps:
                return record.parent
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise TimeoutError


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "code", "said"),
    [
        ("first rank", signal.SIGKILL, 1, "rank 0 was killed"),
        ("second rank", signal.SIGKILL, 1, "rank 1 was killed"),
        ("command", signal.SIGKILL, -9, ""),
        ("command", signal.SIGTERM, 143, "stopped by SIGTERM; the same command resumes"),
        ("command", signal.SIGINT, 130, "stopped by SIGINT; the same command resumes"),
        ("second rank", signal.SIGTERM, 143, "stopped by SIGTERM; the same command resumes"),
    ],
)
def test_no_death_leaves_an_orphan(
    world: Path, tmp_path: Path, victim: str, number: signal.Signals, code: int, said: str
) -> None:
    words = [*small_run(world, tmp_path), *LONG, "trainer.devices=2", "trainer.workers=1"]
    process = tofro("run", *words)
    folder = trained(tmp_path, process, 25)
    family = descendants(process.pid)
    first, second = [pid for pid in family if "tofro.runs.rank" in Path(f"/proc/{pid}/cmdline").read_text()][:2]
    os.kill({"first rank": first, "second rank": second, "command": process.pid}[victim], number)
    began = time.monotonic()
    while any(is_alive(pid) for pid in family) and time.monotonic() - began < 30:
        time.sleep(0.05)
    assert time.monotonic() - began < 10
    found, _, err = finish(process, 20)
    assert found == code
    assert said in err
    assert err.count("tofro: ") == (1 if said else 0)
    if number != signal.SIGKILL:
        saved = json.loads(sorted(folder.glob("checkpoints/step-*/manifest.json"))[-1].read_text())["step"]
        assert saved == rows_of(folder)[-1]["step"], "what was computed is saved"


@linux
@pytest.mark.slow
def test_a_killed_run_resumes_with_as_many_ranks_to_the_bit_and_with_others_to_rounding(world: Path, tmp_path: Path) -> None:
    plan = ["method=pretrain", "budget.steps=60", "budget.evaluate_every=20"]
    plan += ["trainer.checkpoint_every=10", "trainer.log_every=1"]

    def words(name: str, devices: int) -> list[str]:
        return ["run", *small_run(world, tmp_path / name), *plan, f"trainer.devices={devices}"]

    code, _, err = finish(tofro(*words("whole", 2)))
    assert code == 0, err
    whole = the_run(tmp_path / "whole")
    for devices in (2, 1, 4):
        process = tofro(*words(str(devices), 2))
        folder = trained(tmp_path / str(devices), process, 25)
        family = descendants(process.pid)
        process.kill()
        process.communicate()
        while any(is_alive(pid) for pid in family):
            time.sleep(0.05)
        assert not (folder / "result.json").exists()
        code, _, err = finish(tofro(*words(str(devices), devices)))
        assert code == 0, err
        if devices == 2:
            assert rows_of(folder) == rows_of(whole)
            assert all(torch.equal(weight, weights_of(whole)[name]) for name, weight in weights_of(folder).items())
        for found, row in zip(rows_of(folder), rows_of(whole), strict=True):
            assert found == pytest.approx(row, abs=1e-5)
