"""Which parameters of a model train: functions ``model -> None`` that set ``requires_grad``.

In: a :class:`~tofro.encoders.model.Model`, before its optimizer exists. Out: nothing; the model is changed. A selection that
matches nothing is an error. Left out: adapters, biases and norms alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tofro.encoders.model import Model

TASK_HEADS = ("heads.task.", "heads.pooler.")


def train_all(model: Model) -> None:
    """Train every parameter, heads included."""
    _train_only(model, ("",), "all")


def train_head(model: Model) -> None:
    """Train the task head and BERT's pooler, which belongs to it in Hugging Face's classes; the encoder stays as it is."""
    if "task" not in model.heads:
        raise ValueError("tuning=head: the model has no task head to train; choose a method with a task, or tuning=all.")
    _train_only(model, TASK_HEADS, "head")


def train_top_k(model: Model, k: int) -> None:
    """Train the k highest layers of the encoder with the norm above them, and the task head and pooler where there are any."""
    layers = model.settings.layers
    if not 1 <= k <= layers:
        raise ValueError(f"tuning.k: {k} layers asked for, but the encoder has {layers}; use a number from 1 to {layers}.")
    highest = tuple(f"encoder.layers.{index}." for index in range(layers - k, layers))
    _train_only(model, (*TASK_HEADS, *highest, "encoder.norm."), "top_k")


def trainable_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that train, in the model's order."""
    return tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def assert_frozen(model: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Assert that every parameter that does not train is bit-identical to its value in ``start``, an earlier state dict."""
    moved = [
        name
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and not torch.equal(parameter.detach().cpu(), start[name].cpu())
    ]
    assert not moved, f"frozen parameters have changed: {moved}"


def _train_only(model: Model, prefixes: tuple[str, ...], tuning: str) -> None:
    matched = False
    for name, parameter in model.named_parameters():
        chosen = name.startswith(prefixes)
        parameter.requires_grad_(chosen)
        matched = matched or chosen
    if not matched:
        raise ValueError(f"tuning={tuning}: no parameter of the model matches {', '.join(prefixes)}, so nothing would train.")
