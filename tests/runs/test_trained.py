"""A run that differs from a finished one in its measures alone takes its models, and says what training would have said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.runs.conftest import LONG, Chain, carry_out, hash_of, rows_of
from tofro.cli import main
from tofro.modules.settings import MethodSettings
from tofro.runs import outcome
from tofro.runs.folder import Result, write_json
from tofro.runs.trained import MEASURING

MORE = ["method.probe_rows=60", "method.test_rows=20", "method.train_score=true", "method.sentences=32", "method.measure_ft=true"]
ARMS = {
    "full": ["method=full"],
    "partial": ["method=partial"],
    "two_way": ["method=two_way"],
    "ema": ["method=ema"],
    "wise": ["method=wise", "method.alphas=[0.5]"],
    "pretrain": ["method=pretrain", "init_from=null"],
}


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of runs that train from here on."""
    seen: list[str] = []
    fit = outcome.fit

    def watched(module: object, data: object, budget: object, place: object) -> object:
        seen.append(place.folder.name)  # type: ignore[attr-defined]
        return fit(module, data, budget, place)  # type: ignore[arg-type]

    monkeypatch.setattr(outcome, "fit", watched)
    return seen


@pytest.fixture
def made(chain: Chain, world: Path, tmp_path: Path) -> Callable[..., Result]:
    """Return a function that carries a run out from the chain's pretrained one, under an outputs_dir of its own."""

    def carry(place: str, *overrides: str) -> Result:
        base = small_run(world, tmp_path / place)
        return carry_out([*base, chain.start(), *LONG, *overrides])

    return carry


def test_every_key_that_only_measures_is_one_of_the_method() -> None:
    assert {key.removeprefix("method.") for key in MEASURING} <= {field.name for field in fields(MethodSettings)}


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_taken_is_what_training_gives(made: Callable[..., Result], fits: list[str], arm: str) -> None:
    first = made("here", *ARMS[arm])
    taken = made("here", *ARMS[arm], *MORE)
    assert fits == [first.folder.name]
    apart = made("elsewhere", *ARMS[arm], *MORE)
    assert fits == [first.folder.name, apart.folder.name]
    assert taken.data["id"] == apart.data["id"] != first.data["id"]
    assert taken.metrics == apart.metrics
    assert set(first.metrics) <= set(taken.metrics)
    assert rows_of(taken.folder) == rows_of(apart.folder)
    assert hash_of(taken.folder / "models") == hash_of(apart.folder / "models")
    assert taken.data["lineage"]["trained_by"] == first.data["id"]
    assert "trained_by" not in apart.data["lineage"]
    cost = taken.data["cost"]
    assert {name: cost[name] for name in ("steps", "tokens", "flops", "train_seconds")} == {
        name: first.data["cost"][name] for name in ("steps", "tokens", "flops", "train_seconds")
    }
    assert cost["seconds"] > cost["train_seconds"]


def test_the_command_says_whose_training_it_took(
    chain: Chain, world: Path, tmp_path: Path, made: Callable[..., Result], capsys: pytest.CaptureFixture[str]
) -> None:
    first = made("here", "method=full")
    asked = [*small_run(world, tmp_path / "here"), chain.start(), *LONG, "method=full", "method.test_rows=20"]
    assert main(["run", *asked]) == 0
    assert f"trained by run {first.data['id']}" in capsys.readouterr().out


def test_a_model_that_was_taken_is_taken_again_once_the_first_is_gone(made: Callable[..., Result], fits: list[str]) -> None:
    first = made("here", "method=full")
    second = made("here", "method=full", "method.test_rows=20")
    shutil.rmtree(first.folder)
    third = made("here", "method=full", "method.test_rows=10")
    assert fits == [first.folder.name]
    assert third.data["lineage"]["trained_by"] == second.data["id"]


@pytest.mark.parametrize(
    ("change", "damage"),
    [
        (["optimizer.lr=2e-3"], None),
        (["seed=1"], None),
        (["method.dropout=0"], None),
        (["method.held_out=7"], None),  # in pretraining it chooses the weights
        ([], "models"),
        ([], "metrics.jsonl"),
        ([], "result.json"),
        ([], "cost"),  # an older tofro's, which lacks some of it
    ],
)
def test_whatever_may_have_trained_otherwise_trains(
    made: Callable[..., Result], fits: list[str], change: list[str], damage: str | None
) -> None:
    first = made("here", "method=full")
    if damage == "models":
        shutil.rmtree(first.folder / "models")
    elif damage == "cost":
        del first.data["cost"]["waiting_seconds"]
        write_json(first.folder / "result.json", first.data)
    elif damage is not None:
        (first.folder / damage).unlink()
    other = made("here", "method=full", "method.test_rows=20", *change)
    assert fits == [first.folder.name, other.folder.name]
    assert "trained_by" not in other.data["lineage"]


def test_adapters_are_merged_in_the_folder_and_train_again(made: Callable[..., Result], fits: list[str]) -> None:
    made("here", "method=lora")
    made("here", "method=lora", "method.test_rows=20")
    assert len(fits) == 2
