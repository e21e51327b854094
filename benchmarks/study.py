"""What a short run of a study costs beside its training, in a warm process: planning, identity, folder, data, model, measuring.

Fine-tunings of a few steps, made by the command itself, one and two at a time. Wall-clock seconds a run, from the end of the
first ones to the end of the last, less the seconds that training took (cost.train_seconds).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.material import Options
from benchmarks.report import Row

RUNS, STEPS, GOAL = 24, 4, 2.0
WORKERS = (1, 2)


def run(options: Options) -> list[Row]:
    """Return a row per number of workers."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_study(options, Path(place))
        return [measure(folder, workers, options.outputs) for workers in WORKERS]


def write_study(options: Options, place: Path) -> Path:
    """Write a study of a pretraining and many short runs from it; return its folder."""
    shared = [*options.corpus_overrides[:-1], *options.task_overrides, "task.train_rows=400", "objective.length=64"]
    short = [f"budget.steps={STEPS}", f"budget.evaluate_every={STEPS}", "budget.batch=16"]
    stages = {
        "pretrain": {"overrides": ["method=pretrain", "encoder=tiny", *short]},
        "short": {
            "init_from": "pretrain",
            "overrides": ["method=full", "method.measure=false", *short],
            "grid": {"seed": list(range(options.times(RUNS) + 2))},
        },
    }
    study = {"title": "Short runs", "floors": False, "shared": [*shared, "task.max_length=64"], "stages": stages}
    (place / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return place


def measure(folder: Path, workers: int, outputs: str) -> Row:
    """Measure one number of workers."""
    with tempfile.TemporaryDirectory(dir=outputs) as place:
        words = ["study", str(folder), f"launcher.workers={workers}", f"outputs_dir={place}"]
        subprocess.run([sys.executable, "-m", "tofro", *words], check=True, capture_output=True)
        paths = sorted(Path(place).glob("*/full-*/result.json"), key=lambda path: path.stat().st_mtime_ns)
        ends = [path.stat().st_mtime_ns / 1e9 for path in paths]
        trained = [json.loads(path.read_text(encoding="utf-8"))["cost"]["train_seconds"] for path in paths]
    span = ends[-1] - ends[workers - 1]
    counted = trained[workers:]
    each = span * workers / len(counted)
    training = sum(counted) / len(counted)
    note = f"{each:.2f} s a run, {training:.2f} s of it training of {STEPS} steps; {len(counted)} runs"
    return Row("study", f"{workers} at a time", each - training, "s", goal=GOAL, at_most=True, note=note)
