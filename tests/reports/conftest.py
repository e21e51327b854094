"""A synthetic study on disk: made-up numbers in the shape that real runs leave, the same on every call."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROBES = ("pydoc_kind", "pydoc_package", "pydoc_match")
BASE = {
    "mlm_loss": 6.012,
    "pair_accuracy": 0.561,
    "probe_pydoc_kind": 0.712,
    "probe_pydoc_package": 0.633,
    "probe_pydoc_match": 0.548,
}
SHIFT = {
    "mlm_loss": 0.04,
    "pair_accuracy": -0.004,
    "probe_pydoc_kind": 0.021,
    "probe_pydoc_package": 0.006,
    "probe_pydoc_match": -0.002,
}
METHODS = {"full": (0.846, 1.0), "partial": (0.771, 0.42), "two_way": (0.851, 2.03)}


def result(method: str, seed: int, *, task: str | None = "pydoc_kind", variant: str = "", **more: Any) -> dict[str, Any]:
    """A result.json in its whole shape."""
    identity = f"{abs(hash_text(f'{method}{variant}{task}{seed}')):08x}"[:8]
    content: dict[str, Any] = {
        "id": identity,
        "study": "quickstart",
        "stage": "adapt",
        "method": method,
        "variant": variant,
        "task": task,
        "corpus": None,
        "seed": seed,
        "score": "test/accuracy_ft",
        "metrics": {},
        "cost": {},
        "lineage": {"init_from": "0a1b2c3d"},
        "data": {},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "tofro": "0.1.0"},
        "machine": {"cpu": "synthetic processor", "cores": 2, "memory_gb": 8},
        "notes": [],
        "command": f"tofro run method={method} task={task} seed={seed}",
    }
    content.update(more)
    content["folder"] = f"{method}-{task or content['corpus']}-s{seed}-{content['id']}"
    return content


def hash_text(text: str) -> int:
    """A small stable hash; Python's own differs between processes."""
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


def write_run(folder: Path, content: dict[str, Any], rows: list[dict[str, float]] | None = None) -> Path:
    """Write one run folder and return it."""
    path = folder / content["folder"]
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("method: synthetic\n")
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or []))
    (path / "result.json").write_text(json.dumps(content))
    return path


def pretraining(rng: random.Random) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """One pretraining run and its curves."""
    steps, unigram = 1800, 6.431
    rows = []
    for step in range(1, steps + 1):
        level = BASE["mlm_loss"] + 3.0 * math.exp(-step / 180) + 0.35 * math.exp(-step / 900) - 0.05
        rows.append({"step": step, "seconds": step / 15, "train/mlm_loss": level + rng.gauss(0, 0.12), "train/pair_loss": 0.69})
        if step % 200 == 0:
            rows.append(
                {
                    "step": step,
                    "seconds": step / 15,
                    "validation/mlm_loss_pre": level + 0.05,
                    "validation/pair_accuracy_pre": 0.5 + 0.061 * step / steps,
                }
            )
    metrics = {f"validation/{name}_pre": value for name, value in BASE.items() if not name.startswith("probe")}
    metrics |= {
        "validation/unigram_nats_pre": unigram,
        "validation/pair_count_pre": 1611,
        "validation/leak_accuracy": 0.517,
        "validation/leak_accuracy_natural": 0.522,
    }
    metrics |= {f"test/{name}_pre": value for name, value in BASE.items() if name.startswith("probe")}
    metrics |= {
        "test/probe_pydoc_kind_start": 0.655,
        "test/probe_pydoc_package_start": 0.604,
        "test/probe_pydoc_match_start": 0.521,
    }
    cost = {"seconds": 121.0, "train_seconds": 112.0, "steps": steps, "tokens": 1.8e6, "flops": 9.1e12, "peak_memory_mb": 540.0}
    content = result(
        "pretrain",
        0,
        task=None,
        corpus="pydoc",
        score="validation/mlm_loss_pre",
        stage="pretrain",
        metrics=metrics,
        cost=cost,
        lineage={},
        command="tofro run method=pretrain corpus=pydoc seed=0",
    )
    return content, rows


def adaptation(method: str, seed: int, rng: random.Random) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """One fine-tuning run and its curves."""
    level, effort = METHODS[method]
    score = round(level + rng.gauss(0, 0.009), 4)
    metrics = {
        "test/accuracy_ft": score,
        "validation/accuracy_ft": round(score + 0.008, 4),
        "test/accuracy_majority": 0.541,
        "test/accuracy_tfidf": 0.823,
        "test/accuracy_random_encoder": 0.655,
    }
    for name, value in BASE.items():
        split = "test" if name.startswith("probe") else "validation"
        metrics[f"{split}/{name}_start"] = value
        metrics[f"{split}/{name}_pre"] = value + (SHIFT[name] * (1 + rng.gauss(0, 0.3)) if method == "two_way" else 0.0)
    rows = []
    for step in range(1, 301):
        loss = 0.4 + 0.7 * math.exp(-step / 60) + rng.gauss(0, 0.05)
        rows.append({"step": step, "seconds": step / 20, "train/task_loss": loss})
        if step % 30 == 0:
            rows.append(
                {
                    "step": step,
                    "seconds": step / 20,
                    "validation/accuracy_ft": score + 0.008 - 0.28 * math.exp(-step / 70) + rng.gauss(0, 0.006),
                }
            )
    cost = {
        "seconds": 9.0 + 7 * effort,
        "train_seconds": 14.0 * effort,
        "steps": 300,
        "tokens": 4.1e5,
        "flops": 2.2e12 * effort,
        "peak_memory_mb": 470.0 + 150 * effort,
    }
    variant = "head" if method == "partial" else ""
    return result(method, seed, metrics=metrics, cost=cost, variant=variant), rows


def prompt(template: int) -> dict[str, Any]:
    """One prompted template; no parameter changes and there is no curve."""
    score = (0.583, 0.612, 0.549)[template % 3]
    return result(
        "prompt",
        0,
        variant=f"template {template}",
        score="test/accuracy_pre",
        metrics={
            "test/accuracy_pre": score,
            "validation/accuracy_pre": score - 0.01,
            "test/accuracy_majority": 0.541,
            "test/accuracy_tfidf": 0.823,
            "test/accuracy_random_encoder": 0.655,
        },
        cost={"seconds": 6.1, "tokens": 2.0e5, "flops": 3.1e11, "peak_memory_mb": 460.0},
        command=f"tofro run method=prompt task=pydoc_kind prompt.template={template}",
    )


def write_study(folder: Path, seeds: int = 3) -> Path:
    """Write a whole synthetic study with its plan and return its folder."""
    rng = random.Random(7)
    written = [write_run(folder, *pretraining(rng))]
    for method in METHODS:
        written += [write_run(folder, *adaptation(method, seed, rng)) for seed in range(seeds)]
    written += [write_run(folder, prompt(template)) for template in range(3)]
    plan = {
        "title": "Quickstart",
        "claim": "Two-way transfer keeps what one-way fine-tuning reaches and changes pre measurably.",
        "command": "tofro study experiments/quickstart",
        "runs": [path.name for path in written],
        "expect": {"full over majority class": "15 points or more", "MLM below unigram": "0.3 nats or more"},
    }
    (folder / "study.json").write_text(json.dumps(plan))
    return folder


@pytest.fixture(scope="session")
def study_writer() -> Callable[..., Path]:
    """The function that writes the synthetic study, for fixtures that live longer than a test."""
    return write_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The synthetic study, three seeds."""
    return write_study(tmp_path / "outputs" / "quickstart")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write one run with chosen fields: ``make_run("full", 0, metrics={...})``."""

    def make(method: str, seed: int, **more: Any) -> Path:
        return write_run(tmp_path / "runs", result(method, seed, **more))

    return make
