"""One small chain of runs, trained once per session: pretrain, then every method from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import small_run
from tofro.config.compose import compose
from tofro.runs import counting
from tofro.runs.folder import Result
from tofro.runs.run import run

WriteStudy = Callable[..., Path]
LONG = ["budget.steps=6", "budget.evaluate_every=3"]
STAGES: dict[str, Any] = {
    "pretrain": {"overrides": ["method=pretrain", "budget.steps=6"]},
    "adapt": {"init_from": "pretrain", "overrides": ["budget.steps=4"], "grid": {"method": ["full"], "seed": [0, 1]}},
}
PROMPT = [
    "method=prompt",
    "prompt._target_=tofro.modules.prompting.ClozeScorer",
    'prompt.templates=["{text_a} It is [MASK]."]',
    "prompt.words={good: [bright, warm], bad: [cold]}",
]
ENSEMBLE = [*PROMPT, 'prompt.templates=["{text_a} It is [MASK].", "The [MASK] one. {text_a}"]', "prompt.template=null"]


def carry_out(overrides: list[str]) -> Result:
    """Do what ``tofro run`` does with ``overrides``."""
    return run(compose(overrides), overrides)


def hash_of(folder: Path) -> str:
    """Return a hash of the names and bytes of all files under a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"\0".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return metrics.jsonl without its time column."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@dataclass(frozen=True)
class Chain:
    """Finished runs by method, the overrides they share, and the hash of ``pre`` as its own run left it."""

    base: list[str]
    runs: Mapping[str, Result]
    pre_hash: str

    def start(self) -> str:
        """Return the override that starts from the pretrained run."""
        return f"init_from={self.runs['pretrain'].folder}"


@pytest.fixture(scope="session", autouse=True)
def _count_rarely() -> Iterator[None]:
    """Count the operations of one step a run: a counted step takes ten times as long, and these runs have few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "SAMPLES", 1)
        yield


@pytest.fixture(scope="session")
def chain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    base = small_run(world, tmp_path_factory.mktemp("chain"))
    runs = {"pretrain": carry_out([*base, "method=pretrain", *LONG])}
    before = hash_of(runs["pretrain"].folder / "models")
    base_from = [*base, f"init_from={runs['pretrain'].folder}"]
    for method in ("full", "partial", "two_way"):
        runs[method] = carry_out([*base_from, f"method={method}", *LONG])
    runs["prompt"] = carry_out([*base_from, *PROMPT])
    return Chain(base, runs, before)


@pytest.fixture
def write_study(small: list[str], tmp_path: Path) -> WriteStudy:
    """Return a function that writes a study over the small world and returns its folder; keywords are keys of study.yaml."""

    def write(name: str = "small_study", **keys: Any) -> Path:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        content = {"title": name, "shared": small, "stages": STAGES, "floors": False} | keys
        (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return place

    return write
