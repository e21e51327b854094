"""Selections of parameters: what is frozen stays bit-identical and gets no gradient, and nothing selected is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from tofro.encoders.model import Model, build_model
from tofro.encoders.tuning import assert_frozen, train_all, train_head, train_top_k, trainable_names

from .conftest import SMALL, VOCABULARY, make_batch


@pytest.fixture
def model() -> Model:
    return build_model(SMALL, VOCABULARY, classes=3)


def start_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def step(model: Model) -> None:
    """One step of AdamW with a decay that would show on anything it touches."""
    batch = make_batch([6, 9, 4])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    torch.nn.functional.cross_entropy(model.task_logits(model.encoder(batch), batch), torch.tensor([0, 1, 2])).backward()
    optimizer.step()


TASK = ("heads.pooler.", "heads.task.")


@pytest.mark.parametrize(
    ("tune", "prefixes"),
    [
        (train_all, ("",)),
        (train_head, TASK),
        (lambda model: train_top_k(model, 1), (*TASK, "encoder.layers.2.")),
        (lambda model: train_top_k(model, k=3), (*TASK, "encoder.layers.")),
    ],
)
def test_exactly_the_selection_trains(tune: Callable[[Model], None], prefixes: tuple[str, ...], model: Model) -> None:
    train_head(model)  # an earlier selection leaves no trace
    tune(model)
    expected = tuple(name for name, _ in model.named_parameters() if name.startswith(prefixes))
    assert trainable_names(model) == expected
    start = start_of(model)
    step(model)
    for name, parameter in model.named_parameters():
        if not name.startswith(prefixes):
            assert parameter.grad is None, name
            assert torch.equal(parameter, start[name]), name
        elif not name.startswith(("heads.mlm", "heads.pair")):
            assert not torch.equal(parameter, start[name]), name
    assert_frozen(model, start)


def test_the_norm_above_the_layers_goes_with_the_highest() -> None:
    model = build_model(dataclasses.replace(SMALL, family="modernbert"), VOCABULARY, classes=3)
    train_top_k(model, 1)
    names = trainable_names(model)
    assert {name.rpartition(".")[0] for name in names if name.startswith("encoder.")} == {
        "encoder.norm",
        *(f"encoder.layers.2.attention.{part}" for part in ("qkv", "output", "norm")),
        *(f"encoder.layers.2.feed_forward.{part}" for part in ("up", "down", "norm")),
    }
    assert model.encoder.frozen_depth == 3


def test_a_moved_frozen_parameter_is_found(model: Model) -> None:
    train_head(model)
    start = start_of(model)
    with torch.no_grad():
        model.encoder.layers[1].attention.norm.bias[0] += 1e-7
    with pytest.raises(AssertionError, match=r"layers\.1\.attention\.norm\.bias"):
        assert_frozen(model, start)


@pytest.mark.parametrize("k", [0, 4])
def test_more_layers_than_there_are_name_the_key(k: int, model: Model) -> None:
    with pytest.raises(ValueError, match=r"tuning\.k: .* encoder has 3"):
        train_top_k(model, k)


def test_a_head_that_is_not_there_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="tuning=head"):
        train_head(build_model(SMALL, VOCABULARY))
