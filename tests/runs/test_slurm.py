"""The launcher slurm: what is asked of the cluster, what a second driver finds there, and that a run out of time goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ranks import descendants, tofro
from tests.runs.conftest import WriteStudy
from tofro.config.build import resolve
from tofro.config.compose import compose
from tofro.runs import jobs as working
from tofro.runs import slurm as launching
from tofro.runs.folder import read_result, write_json
from tofro.runs.jobs import DONE, FAILED, Ending
from tofro.runs.run import identify, outputs_of
from tofro.runs.settings import SlurmSettings
from tofro.runs.signals import Stopped, listening
from tofro.runs.slurm import Call, Queue, slurm
from tofro.runs.study import plan, read_study, run_study

SLURM = ["launcher=slurm", "launcher.poll=0.01"]


class Cluster:
    """Stands in for submitit and the cluster behind it: jobs are done when they are asked after."""

    def __init__(self) -> None:
        self.arrays: list[list[Call]] = []
        self.parameters: dict[str, Any] = {}
        self.states: dict[str, str] = {}
        self.cancelled: list[str] = []
        self.finish: Callable[[], None] = lambda: None  # what a job does that an earlier driver has asked for
        self.helpers = SimpleNamespace(DelayedSubmission=lambda call: ("again", call))
        self.watcher = SimpleNamespace(get_state=lambda number, mode: self.states.get(number, "UNKNOWN"))

    def AutoExecutor(self, folder: Path, cluster: str, **options: Any) -> Cluster:
        self.parameters |= {"cluster": cluster, **options}
        return self

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters |= parameters

    def batch(self) -> Cluster:
        return self

    def __enter__(self) -> None:
        self.arrays.append([])

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, call: Call) -> Any:
        self.arrays[-1].append(call)
        return self.SlurmJob(Path(), f"{len(self.arrays)}_{len(self.arrays[-1]) - 1}", call)

    def SlurmJob(self, folder: Path, job_id: str, call: Call | None = None) -> Any:
        paths = SimpleNamespace(result_pickle=Path("none"), stderr=Path("job.err"))

        def result() -> Ending:
            if call is not None:
                return call()
            self.finish()
            return Ending(DONE)

        return SimpleNamespace(
            job_id=job_id,
            paths=paths,
            watcher=self.watcher,
            done=lambda: True,
            result=result,
            cancel=lambda: self.cancelled.append(job_id),
        )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(launching, "library", lambda: made)
    return made


def finish(folder: Path, number: str) -> None:
    """Let a run be finished."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", {"id": number})


@pytest.fixture
def finishing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let runs be finished at once, but for those of seed 9; return the configs in their order."""
    seen: list[Any] = []

    def run(config: Any, overrides: list[str]) -> None:
        seen.append(config)
        if config.seed == 9:
            resolve("os.system")
        who = identify(config)
        finish(outputs_of(config) / who.name, who.id)

    monkeypatch.setattr(working, "run", run)
    return seen


def test_a_stage_is_an_array_and_the_next_one_follows(
    write_study: WriteStudy, cluster: Cluster, finishing: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["launcher.partition=gpu", "launcher.account=me", "launcher.minutes=90", "launcher.gpus=2", "launcher.memory_gb=16"]
    asked += ["launcher.extra.qos=long", "launcher.setup=[module load cuda]", "launcher.workers=5", "launcher.requeues=7"]
    assert run_study(write_study(), [*SLURM, *asked])[1:] == (0, 3)
    assert [len(array) for array in cluster.arrays] == [1, 2]
    assert [config.method.name for config in finishing] == ["pretrain", "full", "full"]
    expected = {
        "cluster": "slurm",
        "slurm_max_num_timeout": 7,
        "timeout_min": 90,
        "gpus_per_node": 2,
        "cpus_per_task": 2,
        "slurm_partition": "gpu",
        "slurm_mem": "16GB",
        "slurm_array_parallelism": 5,
        "slurm_additional_parameters": {"account": "me", "qos": "long"},
        "slurm_setup": ["module load cuda"],
    }
    assert {name: cluster.parameters[name] for name in expected} == expected
    assert "2 jobs asked for, such as 2_0" in capsys.readouterr().err


def test_a_run_that_fails_in_its_job_is_told(
    write_study: WriteStudy, cluster: Cluster, finishing: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    adapt = {"init_from": "pretrain", "overrides": ["method=full"], "grid": {"seed": [9, 1]}}
    folder = write_study(stages={"pretrain": {"overrides": ["method=pretrain"]}, "adapt": adapt})
    assert run_study(folder, SLURM)[1:] == (1, 2)
    assert "failed: _target_=os.system is not allowed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "asked"), [("PENDING", [2]), ("RUNNING", [2]), ("UNKNOWN", [1, 2]), ("CANCELLED by 3", [1, 2])]
)
def test_a_second_driver_waits_for_what_is_in_the_queue(
    write_study: WriteStudy, cluster: Cluster, finishing: list[Any], state: str, asked: list[int]
) -> None:
    folder = write_study()
    start, *_ = plan(read_study(folder), [])
    place = folder.parent / "outputs" / "small_study" / "slurm"
    place.mkdir(parents=True)
    write_json(place / "jobs.json", {start.identity.name: "77_0"})
    cluster.states["77_0"] = state
    cluster.finish = lambda: finish(start.folder, start.identity.id)
    assert run_study(folder, SLURM)[1:] == (0, 3)
    assert [len(array) for array in cluster.arrays] == asked
    remembered = json.loads((place / "jobs.json").read_text(encoding="utf-8"))
    assert len(remembered) == 3
    assert (remembered[start.identity.name] == "77_0") is (asked == [2])


def test_a_stop_signal_leaves_jobs_in_the_queue_and_ends_processes(
    write_study: WriteStudy, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study()
    monkeypatch.setattr(Queue, "ended", lambda self: os.kill(os.getpid(), signal.SIGTERM) or [])
    for where, cancelled in (("slurm", []), ("local", ["2_0"])):
        with listening(), pytest.raises(Stopped):
            run_study(folder, [*SLURM, f"launcher.cluster={where}"])
        assert cluster.cancelled == cancelled
    assert "1 jobs go on without this process" in capsys.readouterr().err


def test_a_call_goes_back_into_the_queue_as_it_is(cluster: Cluster) -> None:
    call = Call(["method=tfidf"], ["mine"])
    assert call.checkpoint() == ("again", call)
    assert (call.overrides, call.trusted) == (("method=tfidf",), ("mine",))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_run_out_of_time_hands_the_signal_on(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, frame: heard.append(number))

    def run(config: Any, overrides: list[str]) -> None:
        raise Stopped(number)

    monkeypatch.setattr(working, "run", run)
    try:
        with pytest.raises(Stopped):
            Call(["method=tfidf"], [])()
    finally:
        signal.signal(number, before)
    assert heard == [number]


def test_without_submitit_the_way_out_is_named(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"pip install 'tofro\[slurm\]'"):
        run_study(write_study(), SLURM)


def test_without_a_cluster_the_way_out_is_named(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"launcher\.cluster=local"):
        run_study(write_study(), SLURM)


def test_a_job_that_leaves_nothing_behind_is_a_failure(write_study: WriteStudy, cluster: Cluster, tmp_path: Path) -> None:
    run, *_ = plan(read_study(write_study()), [])
    queue = Queue(SlurmSettings(), tmp_path)

    def killed() -> Ending:
        raise RuntimeError("state: OUT_OF_MEMORY\n" * 40)

    job = SimpleNamespace(job_id="5", paths=SimpleNamespace(stderr="5.err"), result=killed)
    ending = queue._ending(run, job)
    assert ending.kind == FAILED
    assert ending.text.startswith("job 5 ended without a result; 5.err")
    assert len(ending.text.splitlines()) == 1 + launching.LINES


@pytest.mark.slow
def test_a_study_through_submitit_and_a_run_that_is_told_to_leave(write_study: WriteStudy, tmp_path: Path) -> None:
    """By submitit's local executor; the signal is the one that SLURM sends before the time is up."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    stages = {
        "pretrain": {"overrides": ["method=pretrain", "budget.steps=400", "budget.evaluate_every=100"]},
        "adapt": {"init_from": "pretrain", "overrides": ["method=full", "budget.steps=2"], "grid": {"seed": [0, 1]}},
    }
    folder = write_study(stages=stages)
    words = ["launcher=slurm", "launcher.cluster=local", "launcher.poll=0.2", "trainer.log_every=1"]
    driver = tofro("study", str(folder), *words)
    place = tmp_path / "outputs" / "small_study"
    deadline = time.monotonic() + 120
    while not any(record.read_text().count("\n") > 20 for record in place.glob("pretrain-*/metrics.jsonl")):
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    (controller,) = json.loads((place / "slurm" / "jobs.json").read_text()).values()
    task, *_ = descendants(int(controller))
    os.kill(task, signal.SIGUSR2)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    runs = plan(read_study(folder), [])
    assert all(read_result(run.folder) is not None for run in runs)
    said = "".join(path.read_text() for path in (place / "slurm").glob("*_log.*"))
    assert "Requeued job" in said
    assert compose(["launcher=slurm"]).launcher.cluster == "slurm"
    record = [json.loads(line) for line in (runs[0].folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in record if "train/loss" in row]
    assert steps == list(range(1, 401))  # each once: it resumed


def test_the_launcher_is_called_with_its_settings(monkeypatch: pytest.MonkeyPatch, write_study: WriteStudy) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(launching, "slurm", slurm)
    monkeypatch.setattr(launching, "Queue", lambda settings, folder: seen.append((settings, folder)) or _Stop())
    with pytest.raises(Stopped):
        run_study(write_study(), [*SLURM, "launcher.cpus=7"])
    settings, folder = seen[0]
    assert isinstance(settings, SlurmSettings)
    assert settings.cpus == 7
    assert folder.name == "slurm"


class _Stop:
    room = 1

    def adopt(self, run: Any) -> bool:
        raise Stopped(signal.SIGTERM)

    def leave(self) -> None:
        pass
