"""Compiled training: the same results to rounding, few graphs, and checkpoints that either way of running can take up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tofro
from tests.modules.conftest import Bench
from tests.modules.conftest import bench as bench
from tests.modules.conftest import start as start
from tests.modules.conftest import task as task
from tests.modules.conftest import tokenizer as tokenizer
from tests.runs.test_fit import Kill, Killed, rows_of
from tofro.modules.settings import BudgetSettings
from tofro.runs.fit import prepare
from tofro.runs.settings import TrainerSettings

BUDGET = BudgetSettings(steps=12, batch=16, evaluate_every=4)
# Dynamo looks at .grad of every tensor and hides the warning, which does not help where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")


def graphs() -> int:
    """Return how many graphs this process has compiled."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def assert_near(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """Assert that two trainings ended at the same weights but for rounding."""
    for (name, first), second in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(first, second, atol=2e-5, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def assert_rows_near(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for first, second in zip(one, other, strict=True):
        assert second == pytest.approx(first, abs=1e-4, rel=1e-3)


@NEEDS_COMPILER
@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_compiled_training_equals_plain_training_with_few_graphs(bench: Bench, accumulate: int) -> None:
    bench.start.dropout = 0.0
    budget = BudgetSettings(steps=12, batch=16, evaluate_every=4, accumulate=accumulate)
    plain, compiled = bench.two_way(budget, weight=0.5), bench.two_way(budget, weight=0.5)
    report = bench.fit(plain, budget, "plain")
    torch.compiler.reset()
    before = graphs()
    sizes = {batch.tokens.numel() for step in range(12) for batch in bench.data(budget, filled=True).steps[step]}
    assert bench.fit(compiled, budget, "compiled", compile=True).tokens == report.tokens
    assert_near(plain, compiled)
    assert_rows_near(rows_of(bench.folder / "plain"), rows_of(bench.folder / "compiled"))
    # Each size costs three graphs, on either side of attention, whatever the number of layers and encoders; not one step more.
    assert 0 < graphs() - before <= 3 * len(sizes)


@NEEDS_COMPILER
@pytest.mark.slow
@pytest.mark.parametrize("family", [[], ["encoder=modernbert_tiny", "encoder.local_window=8"]])
def test_a_whole_pretraining_compiled_equals_a_plain_one(small: list[str], family: list[str], tmp_path: Path) -> None:
    """From the command to the result, with cut batches and both losses."""
    overrides = [*family, *small, "method=pretrain", "method.dropout=0", "budget.steps=20", "budget.accumulate=2"]
    plain = tofro.run(overrides)
    torch.compiler.reset()
    before = graphs()
    compiled = tofro.run([*overrides, "trainer.compile=true", f"outputs_dir={tmp_path / 'compiled'}"])
    assert graphs() > before
    assert compiled.folder.name == plain.folder.name
    assert compiled.metrics == pytest.approx(plain.metrics, abs=1e-3)
    assert_rows_near(rows_of(plain.folder), rows_of(compiled.folder))
    assert compiled.data["cost"]["tokens"] == plain.data["cost"]["tokens"]


@NEEDS_COMPILER
@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_serves_compiled_and_plain_training(bench: Bench, first: bool) -> None:
    bench.start.dropout = 0.0
    whole, broken, resumed = (bench.full(BUDGET) for _ in range(3))
    bench.fit(whole, BUDGET, "whole")
    torch.compiler.reset()
    before = graphs()
    with pytest.raises(Killed):
        bench.fit(broken, BUDGET, "broken", 3, (Kill("step", 7),), compile=first)
    bench.fit(resumed, BUDGET, "broken", 3, compile=not first)
    assert graphs() > before
    assert_near(whole, resumed)
    assert resumed.state_dict().keys() == whole.state_dict().keys()


@NEEDS_COMPILER
@pytest.mark.slow
def test_compiled_training_resumes_bit_identically_with_dropout(bench: Bench) -> None:
    whole, broken, resumed = (bench.full(BUDGET) for _ in range(3))
    settings = {"compile": True, "activation_checkpointing": True}
    torch.compiler.reset()
    before = graphs()
    bench.fit(whole, BUDGET, "whole", 3, **settings)
    with pytest.raises(Killed):
        bench.fit(broken, BUDGET, "broken", 3, (Kill("step", 7),), **settings)
    bench.fit(resumed, BUDGET, "broken", 3, **settings)
    assert graphs() > before
    assert all(torch.equal(*pair) for pair in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
    assert rows_of(bench.folder / "whole") == rows_of(bench.folder / "broken")


def test_a_machine_without_a_compiler_is_told_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"trainer\.compile: there is no C\+\+ compiler no-such-compiler"):
        prepare(bench.full(BUDGET), TrainerSettings(compile=True))
