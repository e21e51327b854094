"""One AdamW over named parameter groups, clipping per encoder, and what makes a step that is not finite leave no trace.

In: the models of a module and :class:`OptimizerSettings`. Out: an optimizer whose groups are named
``<encoder>/<part>/<decay|plain>``: the part is ``body`` or ``head``, the task's, and where rates fall from layer to layer ``top``
(the other heads), ``layer_3`` and so on, ``embeddings`` and ``head``. Leaves out schedules (objectives/schedules.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tofro.modules.settings import OptimizerSettings

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


def parameter_groups(models: Mapping[str, nn.Module], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Return AdamW's groups: trainable parameters by encoder, by part of it, and by whether they decay.

    Biases and norms (fewer than two dimensions) do not decay. A model is taken to keep its task head under ``heads.task``. With
    ``layer_decay`` d below 1 the rate of what lies ``depth`` below the heads is multiplied by d^depth: 1 in the highest layer and
    the norm above it, L + 1 in the embeddings of an encoder of L layers (Howard and Ruder 2018, Clark et al. 2020).
    """
    groups: list[dict[str, Any]] = []
    for encoder, model in models.items():
        sorted_parameters: dict[tuple[int, str, str], list[nn.Parameter]] = {}
        layers = _layers_of(model)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                depth, part = _place(name, layers) if settings.layer_decay < 1 else (0, "body")
                part = "head" if name.startswith("heads.task.") else part
                kind = "decay" if parameter.ndim >= 2 else "plain"
                sorted_parameters.setdefault((depth, part, kind), []).append(parameter)
        if settings.layer_decay < 1:  # from the top: the rate that is logged is the first group's
            sorted_parameters = {place: sorted_parameters[place] for place in sorted(sorted_parameters, key=_from_the_top)}
        for (depth, part, kind), parameters in sorted_parameters.items():
            groups.append(
                {
                    "name": f"{encoder}/{part}/{kind}",
                    "params": parameters,
                    "lr": _rate(settings, encoder, part) * settings.layer_decay**depth,
                    "weight_decay": _decay(settings, encoder) if kind == "decay" else 0.0,
                }
            )
    if not groups:
        raise ValueError("tuning: no parameter is left to train; choose another tuning")
    return groups


def _layers_of(model: nn.Module) -> int:
    """Return how many layers a model's encoder has; 0 of a module that is none."""
    return 1 + max((int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.match(name))), default=-1)


def _place(name: str, layers: int) -> tuple[int, str]:
    """Return how deep below the heads a parameter lies in a model of ``layers`` layers, and what that part is called."""
    if found := _LAYER.match(name):
        return layers - int(found[1]), f"layer_{found[1]}"
    if name.startswith("encoder.embeddings."):
        return layers + 1, "embeddings"
    return (1, f"layer_{layers - 1}") if name.startswith("encoder.") else (0, "top")


def _from_the_top(place: tuple[int, str, str]) -> tuple[bool, int, str]:
    depth, part, kind = place
    return part == "head", depth, kind


def _rate(settings: OptimizerSettings, encoder: str, part: str) -> float:
    if part == "head" and settings.lr_head is not None:
        return settings.lr_head
    if encoder == "pre" and settings.lr_pre is not None:
        return settings.lr_pre
    return settings.lr


def _decay(settings: OptimizerSettings, encoder: str) -> float:
    own = settings.weight_decay_pre if encoder == "pre" else None
    return settings.weight_decay if own is None else own


def adamw(models: Mapping[str, nn.Module], settings: OptimizerSettings) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019), fused: one kernel a step on CPU and CUDA."""
    return torch.optim.AdamW(
        parameter_groups(models, settings),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )


def clip_per_encoder(
    models: Mapping[str, nn.Module], largest: float, largest_pre: float | None = None
) -> dict[str, torch.Tensor]:
    """Clip each encoder's gradient to norm ``largest``, that of ``pre`` to ``largest_pre`` where it is given.

    Returns the norms before clipping, without a host sync. Per encoder, so that a large gradient of one does not shrink the
    other's step. A norm of 0 only measures.
    """
    norms = {}
    for encoder, model in models.items():
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        if parameters:
            limit = largest_pre if encoder == "pre" and largest_pre is not None else largest
            norms[encoder] = torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"))
    return norms


def poison(loss: torch.Tensor) -> torch.Tensor:
    """Return ``loss`` () as it is, with a gradient that is NaN wherever the loss is not finite.

    A loss may be infinite on one rank while its gradient is finite; NaN spreads to every rank with the sum of the gradients. A
    finite loss is multiplied by one, which changes no bit of it or its gradient.
    """
    value = loss.detach()
    return loss * (value - value + 1)


def not_finite(norms: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return 1.0 () where one of the gradient norms () is NaN or infinite, else 0.0, without a host sync."""
    return torch.stack(list(norms)).isfinite().all().logical_not().float()
