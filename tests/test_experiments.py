"""Every study says what it claims, costs, expects and found, and the index of studies lists it as it is."""

from __future__ import annotations

import json
import re
import tarfile
from datetime import date
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tofro.config.compose import compose
from tofro.runs.study import read_study

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
STUDIES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/study.yaml"))
KEPT = sorted(EXPERIMENTS.glob("*/*.tar.xz"))  # `make keep` writes them, `make results` unpacks them


@pytest.fixture(scope="module")
def index() -> dict[str, list[str]]:
    """The rows of the index by the study's name: claim, verdict, date, cost."""
    rows = {}
    for line in (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines():
        found = re.match(r"\| \[(\w+)\]\((\w+)/README\.md\) \| (.+) \|$", line)
        if found:
            assert found[1] == found[2]
            rows[found[1]] = found[3].split(" | ")
    return rows


def test_the_index_lists_every_folder_and_no_other(index: dict[str, list[str]]) -> None:
    folders = sorted(path.name for path in EXPERIMENTS.iterdir() if path.is_dir())
    assert sorted(index) == STUDIES == folders


@pytest.mark.parametrize("name", STUDIES)
def test_the_index_says_what_the_study_claims_and_what_became_of_it(index: dict[str, list[str]], name: str) -> None:
    claim, verdict, day, cost = index[name]
    assert claim == read_study(EXPERIMENTS / name).claim
    assert len(verdict) > 10
    assert date.fromisoformat(day) <= date(2100, 1, 1)
    assert re.match(r"\d+ runs?, \d+ min", cost)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_how_it_is_run_and_what_came_out(name: str) -> None:
    text = (EXPERIMENTS / name / "README.md").read_text(encoding="utf-8")
    for part in ("Claim", "Commands?", "Cost", "Expected", "Observed", "What would change our mind"):
        assert re.search(rf"\*\*{part}\.\*\*", text), part


@pytest.mark.parametrize(("recipe", "arm"), [("held", "supcon_held"), ("one_model", "one_model_states")])
def test_a_recipe_is_the_arm_that_was_measured(monkeypatch: pytest.MonkeyPatch, recipe: str, arm: str) -> None:
    monkeypatch.setenv("TOFRO_DATA", "somewhere")
    stage = OmegaConf.load(EXPERIMENTS / "flow_back" / "study.yaml").stages[arm]
    arms = [*(f"{key}={values[0]}" for key, values in OmegaConf.to_container(stage.grid).items()), *stage.overrides]
    told = ("method=", "method.alpha", "alignment", "regularizer", "optimizer.lr_pre")  # what the recipe says in their stead
    assert compose(arms) == compose([*(each for each in arms if not each.startswith(told)), f"recipe={recipe}"])


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_kept_results_are_those_of_finished_runs_of_the_study_and_name_no_machine(path: Path) -> None:
    with tarfile.open(path) as kept:
        members = {member.name: member for member in kept if member.isfile()}
        assert {Path(name).parts[0] for name in members} == {path.parent.name}
        runs = [name for name in members if name.endswith("/result.json")]
        assert runs
        for name in runs:
            assert Path(name).parent.name.endswith("-" + json.load(kept.extractfile(members[name]) or pytest.fail(name))["id"])
        for name, member in members.items():
            if name.endswith((".json", ".yaml")) and "/models/" not in name:
                text = (kept.extractfile(member) or pytest.fail(name)).read().decode()
                assert not re.search(r"""["' =](/|~)\w""", text), name
