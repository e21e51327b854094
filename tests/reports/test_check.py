"""A study's smallest run comes out again, and where it does not, what differs is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tofro.cli import BUG, DONE, MISTAKE, main
from tofro.config.compose import compose
from tofro.reports import check as checking
from tofro.reports.check import Checked, check, compare_folders, smallest
from tofro.reports.collect import collect, read_run
from tofro.runs.folder import Result
from tofro.runs.run import run

Make = Callable[..., Path]
CONFIG = {"init_from": None, "init_from_ft": None, "seed": 0}
ROWS = '{"step": 1, "seconds": 0.1, "train/loss": 1.5}\n{"step": 2, "seconds": 0.2, "train/loss": 1.25}\n'


@pytest.fixture
def seeds(make_run: Make) -> list[Path]:
    """Three seeds of `full`, whose scores differ by 1 point, with all that a run leaves."""
    return [complete(make_run("full", seed, **numbers(0.50 + 0.01 * seed, 5.0 + seed))) for seed in range(3)]


def numbers(score: float, seconds: float) -> dict[str, Any]:
    metrics = {"test/accuracy_ft": score, "train/steps": 30}
    config = {"budget.steps": 30, "task.path": "f00"}
    return {"metrics": metrics, "cost": {"seconds": seconds, "steps": 30}, "config": config}


def complete(folder: Path, **config: Any) -> Path:
    """Add the files that a synthetic run lacks."""
    (folder / "config.yaml").write_text(json.dumps(CONFIG | config))
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "seconds": 0.1, "train/loss": 1.5}\n{"step": 2, "seconds": 0.2, "train/loss": 1.25}\n'
    )
    environment = {"versions": {"torch": "2.13.0"}, "machine": {"cpu": "one"}, "threads": 2, "git": "abc"}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "models" / "ft").mkdir(parents=True)
    (folder / "models" / "ft" / "model.safetensors").write_bytes(b"weights")
    return folder


def rerun(folder: Path, tmp_path: Path, **changed: Any) -> Result:
    """A copy of a run as its re-run would be, with some of result.json changed; times differ."""
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    rows = (again / "metrics.jsonl").read_text().replace('"seconds": 0.', '"seconds": 7.')
    (again / "metrics.jsonl").write_text(rows)
    data = json.loads((again / "result.json").read_text())
    for name, value in changed.items():
        data[name] = data[name] | value if isinstance(value, dict) else value
    return Result(again, data)


def compared(folder: Path, again: Result) -> Checked:
    return compare_folders(read_run(folder), again, collect([folder.parent]))


def test_a_real_run_comes_out_bit_identical(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["method=full", "method.measure=false", "budget.steps=4", "budget.evaluate_every=2", "study=tiny"]
    made = run(compose([*small, *quick]), quick)
    environment = json.loads((made.folder / "environment.json").read_text())
    assert {"versions", "machine", "threads", "git"} <= set(environment)
    assert {"tofro", "torch", "numpy", "tokenizers", "sentencex"} <= set(environment["versions"])
    assert made.data["data"]["task"]
    assert made.data["config"]["task.path"]
    assert main(["report", "--check", str(made.folder.parent)]) == DONE
    assert f"{made.folder.name}: bit-identical" in capsys.readouterr().out
    assert [path.name for path in made.folder.parent.iterdir()] == [made.folder.name]  # nothing is left beside it


def test_a_run_that_comes_out_otherwise_is_kept_and_one_that_does_not_is_not(
    seeds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Path] = []
    score = 0.9

    def carried_out(config: Path, overrides: list[str]) -> Result:
        """Stand in for the run: leave a copy where the rewritten config says."""
        places.append(config.parent)
        return rerun(seeds[0], config.parent, metrics={"test/accuracy_ft": score})

    monkeypatch.setattr(checking, "reload", lambda path: path)
    monkeypatch.setattr(checking, "carry_out", carried_out)
    found = check(seeds[0].parent)
    assert not found.holds
    assert found.kept == places[0] / "again"
    assert (found.kept / "result.json").is_file()
    config = yaml.safe_load((places[0] / "config.yaml").read_text())
    assert config["outputs_dir"] == str(places[0] / "outputs")
    assert config["logger"] == {}  # a tracker that was asked for is not asked again
    shutil.rmtree(places[0])
    score = 0.5
    assert check(seeds[0].parent).holds
    assert not places[1].exists()


def test_the_same_but_for_times_is_bit_identical(seeds: list[Path], tmp_path: Path) -> None:
    found = compared(seeds[0], rerun(seeds[0], tmp_path))
    assert (found.word, found.differs, found.holds) == ("bit-identical", (), True)
    assert "1 file of weights" in found.sentence


def test_within_the_spread_of_seeds_and_beyond_it(seeds: list[Path], tmp_path: Path) -> None:
    near = compared(seeds[0], rerun(seeds[0], tmp_path, metrics={"test/accuracy_ft": 0.51}))
    assert near.word == "within the interval"
    assert "moved by +1.0; the interval is ± 6.1" in near.sentence  # t(2, 0.975) 4.30 x sd 1.0 x sqrt 2
    assert any("test/accuracy_ft" in line for line in near.differs)
    shutil.rmtree(tmp_path / "again")
    far = compared(seeds[0], rerun(seeds[0], tmp_path, metrics={"test/accuracy_ft": 0.57}))
    assert (far.word, far.holds) == ("different", False)


def test_without_seeds_a_score_may_move_by_a_rounding(make_run: Make, tmp_path: Path) -> None:
    folder = complete(make_run("full", 0, **numbers(0.5, 5.0)))
    assert compared(folder, rerun(folder, tmp_path, metrics={"test/accuracy_ft": 0.5004})).word == "within the interval"
    shutil.rmtree(tmp_path / "again")
    assert compared(folder, rerun(folder, tmp_path, metrics={"test/accuracy_ft": 0.502})).word == "different"


def test_what_differs_and_why_is_named(seeds: list[Path], tmp_path: Path) -> None:
    again = rerun(seeds[0], tmp_path, id="ffffffff", config={"task.path": "ba4"})
    (again.folder / "models" / "ft" / "model.safetensors").write_bytes(b"others")
    (again.folder / "metrics.jsonl").write_text(
        '{"step": 1, "seconds": 0.1, "train/loss": 1.5}\n{"step": 2, "seconds": 0.2, "train/loss": 9}\n'
    )
    environment = {"versions": {"torch": "2.14.0"}, "machine": {"cpu": "two"}, "threads": 8, "git": "abd+"}
    (again.folder / "environment.json").write_text(json.dumps(environment))
    found = compared(seeds[0], again)
    assert found.word == "different"
    assert found.differs == ("metrics.jsonl, from line 2 on", "weights of ft/model.safetensors")
    text = "\n".join(found.causes)
    for said in (
        "task.path: f00 was ba4",
        "versions.torch: 2.13.0 was 2.14.0",
        "machine.cpu: one was two",
        "threads: 2 was 8",
        "git: abc was abd+",
        "a checkout with changes",
    ):
        assert said in text


def test_where_nothing_recorded_differs_it_says_so_and_names_a_clock(seeds: list[Path], tmp_path: Path) -> None:
    moved = {"metrics": {"test/accuracy_ft": 0.505}}
    assert compared(seeds[0], rerun(seeds[0], tmp_path, **moved)).causes[0].startswith("nothing that is recorded")
    shutil.rmtree(tmp_path / "again")
    content = json.loads((seeds[0] / "result.json").read_text())
    content["config"] = {"budget.minutes": 1}
    (seeds[0] / "result.json").write_text(json.dumps(content))
    assert "limited by the clock" in compared(seeds[0], rerun(seeds[0], tmp_path, **moved)).causes[0]


def test_the_cheapest_run_that_can_be_run_again(seeds: list[Path], make_run: Make, tmp_path: Path) -> None:
    complete(make_run("prompt", 0, cost={"seconds": 0.1}))  # trains nothing
    complete(make_run("lora", 0, **numbers(0.5, 1.0)), init_from=str(tmp_path / "gone" / "pretrain-x-s0-00000000"))
    by_clock = numbers(0.5, 2.0) | {"config": {"budget.minutes": 1}}
    complete(make_run("bitfit", 0, **by_clock))
    found, starts = smallest(collect([tmp_path / "runs"]))
    assert (found.folder, starts) == (seeds[0], {})
    beside = complete(make_run("pretrain", 0, task=None, corpus="pydoc", **numbers(0.5, 99.0)))
    moved = tmp_path / "gone" / beside.name
    complete(make_run("l2_sp", 0, **numbers(0.5, 1.5)), init_from=str(moved))
    found, starts = smallest(collect([tmp_path / "runs"]))
    assert found.method == "l2_sp"
    assert starts == {"init_from": str(beside)}  # all runs were moved together


def test_mistakes(make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("prompt", 0, cost={"seconds": 0.1})
    assert main(["report", "--check", str(tmp_path / "runs")]) == MISTAKE
    assert "no run here that trained" in capsys.readouterr().err
    assert main(["report", "--check", str(tmp_path / "runs"), str(tmp_path)]) == MISTAKE
    assert main(["report", "--check", str(tmp_path / "runs"), "--html"]) == MISTAKE
    run_record = read_run(next((tmp_path / "runs").iterdir()))
    monkeypatch.setattr(checking, "check", lambda folder: Checked(run_record, "different", "It is.", ("a",), ("b",), tmp_path))
    assert main(["report", "--check", str(tmp_path / "runs")]) == BUG
    out = capsys.readouterr().out
    assert "different. It is." in out
    assert f"the re-run is kept in {tmp_path}" in out
