"""Every option in conf/ makes what it names. That each composes, and that its target exists, is tested in tests/config."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tofro.config import compose as composing
from tofro.config.build import build, resolve
from tofro.config.compose import compose
from tofro.encoders.encoder import Encoder
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.optimizers import adamw
from tofro.text.corpus import Corpus
from tofro.text.task import Task
from tofro.tokens.training import open_tokenizer


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (composing.conf_folder() / group).glob("*.yaml"))


@pytest.fixture
def model() -> Model:
    return build_model(EncoderSettings(layers=2, width=16, heads=2, intermediate=32, max_positions=32), 64, ("mlm", "pair"))


@pytest.mark.parametrize("option", options("encoder"))
def test_encoders(option: str) -> None:
    settings = OmegaConf.to_object(compose([f"encoder={option}"]).encoder)
    with torch.device("meta"):  # shapes without memory
        assert len(Encoder(settings, 30_528).layers) == settings.layers


@pytest.mark.parametrize("option", options("tuning"))
def test_tunings(option: str, model: Model) -> None:
    model.add_task_head(2, seed=0)
    build(compose([f"tuning={option}"]).tuning, model, 0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("heads.task") for name in trained)
    assert any(name.startswith("encoder") for name in trained) is (option != "head")


@pytest.mark.parametrize("option", options("schedule"))
def test_schedules(option: str) -> None:
    schedule = build(compose([f"schedule={option}"]).schedule)
    factors = [schedule(step / 10) for step in range(11)]
    assert max(factors) == pytest.approx(1, abs=0.1)
    assert all(0 <= factor <= 1 for factor in factors)


@pytest.mark.parametrize("option", options("alignment"))
def test_alignments(option: str) -> None:
    alignment = compose([f"alignment={option}", "method=two_way"]).alignment
    pre, ft = (torch.randn(6, 8, requires_grad=True) for _ in range(2))
    labels = torch.arange(6) % 2
    build(alignment.loss)(pre, ft, labels).backward()
    assert pre.grad is not None
    assert ft.grad is not None
    assert 0 <= build(alignment.schedule)(0.5) <= 1


@pytest.mark.parametrize("option", options("alignment/schedule"))
def test_weights_over_a_run(option: str) -> None:
    schedule = build(compose([f"alignment/schedule={option}"]).alignment.schedule)
    assert schedule(1.0) == (0 if option == "cosine" else 1)


@pytest.mark.parametrize("option", options("optimizer"))
def test_optimizers(option: str, model: Model) -> None:
    optimizer = adamw({"ft": model}, OmegaConf.to_object(compose([f"optimizer={option}"]).optimizer))
    assert sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"]) == sum(
        parameter.numel() for parameter in model.parameters()
    )


@pytest.mark.parametrize("option", options("tokenizer"))
def test_tokenizers(option: str) -> None:
    settings = OmegaConf.to_object(compose([f"tokenizer={option}", "tokenizer.vocabulary=64"]).tokenizer)
    assert open_tokenizer(settings, ["some text to learn from", "and some more text"]).vocabulary == 64


@pytest.mark.parametrize("option", options("method"))
def test_methods(option: str) -> None:
    method = compose([f"method={option}", *(["prompt=pydoc_kind"] if option == "prompt" else [])]).method
    assert list(inspect.signature(resolve(method._target_)).parameters) == ["settings", "context"]
    assert method.name == option


def test_data_from_files(world: Path) -> None:
    corpus = build(compose(["corpus=text", f"corpus.path={world / 'corpus.txt'}"]).corpus)
    task = build(compose(["task=file", f"task.path={world / 'task.jsonl'}"]).task)
    assert isinstance(corpus, Corpus)
    assert isinstance(task, Task)
    assert (corpus.name, task.name, task.labels) == ("corpus", "task", ("bad", "good"))


@pytest.mark.parametrize("recipe", options("recipe"))
def test_recipes_open_with_what_they_cost_and_the_command(recipe: str) -> None:
    text = (composing.conf_folder() / "recipe" / f"{recipe}.yaml").read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert f"recipe={recipe}" in "".join(comments)
    assert "tofro run" in "".join(comments)
    assert compose([f"recipe={recipe}"]).method.name
