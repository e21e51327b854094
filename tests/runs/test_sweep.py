"""The example of a sweep on wandb: the command that its agent would start composes, and its metric is one that runs have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runs.conftest import Chain
from tofro.config.compose import compose

FILE = Path(__file__).resolve().parents[2] / "docs" / "sweep.yaml"


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def proposals(parameters: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a sweep may propose: the first and the last of every parameter's values."""
    ends = [("value", "value"), ("values", "values"), ("min", "max")]
    found: list[dict[str, Any]] = [{}, {}]
    for name, each in parameters.items():
        for proposal, place in zip(found, (0, 1), strict=True):
            key = next(pair[place] for pair in ends if pair[0] in each)
            value = each[key]
            proposal[name] = value[-place] if key == "values" else value
    return found


def command(sweep: dict[str, Any], proposal: dict[str, Any]) -> list[str]:
    """Return the words that wandb's agent makes of a proposal, by wandb's own code."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in proposal.items()}})
    words: list[str] = []
    for word in sweep["command"]:
        words += arguments["args_no_hyphens"] if word == "${args_no_hyphens}" else [word]
    return words


def test_every_proposal_composes_as_the_agent_would_type_it(sweep: dict[str, Any]) -> None:
    for proposal in proposals(sweep["parameters"]):
        program, verb, *overrides = command(sweep, proposal)
        assert (program, verb) == ("tofro", "run")
        config = compose(overrides)
        assert config.logger._target_ == "tofro.runs.loggers.wandb"
        assert config.method.name == "two_way"
        for name, value in proposal.items():
            if name not in ("method", "logger"):
                node: Any = config
                for part in name.split("."):
                    node = node[part]
                assert node == value, name


def test_what_is_steered_by_is_what_a_run_measures(sweep: dict[str, Any], chain: Chain) -> None:
    result = chain.runs[sweep["parameters"]["method"]["value"]]
    assert sweep["metric"]["name"] in result.metrics
    assert f'"{sweep["metric"]["name"]}"' in (result.folder / "metrics.jsonl").read_text(encoding="utf-8")
