"""One AdamW over named parameter groups, clipping per encoder, and what makes a step that is not finite leave no trace.

In: the models of a module and :class:`OptimizerSettings`. Out: an optimizer whose groups are named
``<encoder>/<body|head>/<decay|plain>``. Leaves out schedules (objectives/schedules.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tofro.modules.settings import OptimizerSettings


def parameter_groups(models: Mapping[str, nn.Module], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Return AdamW's groups: trainable parameters by encoder, by head or body, and by whether they decay.

    Biases and norms (fewer than two dimensions) do not decay. A model is taken to keep its task head under ``heads.task``.
    """
    groups: list[dict[str, Any]] = []
    for encoder, model in models.items():
        sorted_parameters: dict[tuple[str, str], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                part = "head" if name.startswith("heads.task.") else "body"
                kind = "decay" if parameter.ndim >= 2 else "plain"
                sorted_parameters.setdefault((part, kind), []).append(parameter)
        for (part, kind), parameters in sorted_parameters.items():
            groups.append(
                {
                    "name": f"{encoder}/{part}/{kind}",
                    "params": parameters,
                    "lr": _rate(settings, encoder, part),
                    "weight_decay": settings.weight_decay if kind == "decay" else 0.0,
                }
            )
    if not groups:
        raise ValueError("tuning: no parameter is left to train; choose another tuning")
    return groups


def _rate(settings: OptimizerSettings, encoder: str, part: str) -> float:
    if part == "head" and settings.lr_head is not None:
        return settings.lr_head
    if encoder == "pre" and settings.lr_pre is not None:
        return settings.lr_pre
    return settings.lr


def adamw(models: Mapping[str, nn.Module], settings: OptimizerSettings) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019), fused: one kernel a step on CPU and CUDA."""
    return torch.optim.AdamW(
        parameter_groups(models, settings),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )


def clip_per_encoder(models: Mapping[str, nn.Module], largest: float) -> dict[str, torch.Tensor]:
    """Clip each encoder's gradient to norm ``largest``; return the norms before clipping, without a host sync.

    Per encoder, so that a large gradient of one does not shrink the other's step. ``largest`` 0 only measures.
    """
    norms = {}
    for encoder, model in models.items():
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        if parameters:
            norms[encoder] = torch.nn.utils.clip_grad_norm_(parameters, largest if largest > 0 else float("inf"))
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
