"""Which parameters of a model train: functions ``(settings, model, seed) -> None`` that set ``requires_grad``.

In: a :class:`~tofro.encoders.model.Model`, before its optimizer exists. Out: nothing; the model is changed. A selection that
matches nothing in the encoder where it should is an error. :func:`settle` makes an ordinary model of it again after training.
Left out: how adapters compute (lora.py), rates and decay (modules/optimizers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tofro.batches.order import key
from tofro.encoders import lora
from tofro.encoders.model import Model, initialise
from tofro.encoders.settings import LoraSettings, TopKSettings, TuningSettings

TASK_HEADS = ("heads.task.", "heads.pooler.")
CLOZE_HEADS = ("heads.mlm.",)  # of a model that answers its task through a prompt, and so has no task head


def train_all(settings: TuningSettings, model: Model, seed: int) -> None:
    """Train every parameter, heads included."""
    model.requires_grad_(True)


def train_head(settings: TuningSettings, model: Model, seed: int) -> None:
    """Train the task head and BERT's pooler, which belongs to it in Hugging Face's classes; the encoder stays as it is.

    Where a prompt answers the task, this is the head for masked words, as it is in every other tuning too.
    """
    if not {"task", "mlm"} & set(model.heads):
        raise ValueError("tuning=head: the model has no task head to train; choose a method with a task, or tuning=all.")
    _train_with_heads(model, lambda name: False)


def train_top_k(settings: TopKSettings, model: Model, seed: int) -> None:
    """Train the k highest layers of the encoder with the norm above them, and the task head and pooler where there are any."""
    layers, k = model.settings.layers, settings.k
    if not 1 <= k <= layers:
        raise ValueError(f"tuning.k: {k} layers asked for, but the encoder has {layers}; use a number from 1 to {layers}.")
    highest = tuple(f"encoder.layers.{index}." for index in range(layers - k, layers))
    _train_with_heads(model, lambda name: name.startswith((*highest, "encoder.norm.")))


def train_bias(settings: TuningSettings, model: Model, seed: int) -> None:
    """Train the encoder's biases, those of its norms among them, and task head and pooler: BitFit (Ben Zaken et al. 2022)."""
    if not _train_with_heads(model, lambda name: name.endswith(".bias")):
        raise ValueError(
            f"tuning=bias: this encoder, of family {model.settings.family}, has no biases, so nothing of it would train; "
            "choose tuning=norm, lora or head."
        )


def train_norm(settings: TuningSettings, model: Model, seed: int) -> None:
    """Train the encoder's layer norms, and task head and pooler (Qi et al. 2022, "LN-tuning")."""
    matched = _train_with_heads(model, lambda name: ".norm." in name)
    assert matched, "every encoder has norms"


def train_lora(settings: LoraSettings, model: Model, seed: int) -> None:
    """Train differences of low rank to the encoder's linear maps that ``targets`` names, and task head and pooler (lora.py)."""
    unknown = lora.adapt(model.encoder.layers, settings.targets, settings.rank, settings.alpha, settings.dropout, seed)
    maps = {name.partition(".")[2] for name, part in model.encoder.layers.named_modules() if isinstance(part, nn.Linear)}
    if unknown or not settings.targets:
        problem = f"no linear map of a layer is called {unknown[0]}" if unknown else "names no map to adapt"
        raise ValueError(f"tuning.targets: {problem}; there are {', '.join(sorted(maps))}.")
    _train_with_heads(model, lambda name: name.endswith((lora.DOWN, lora.UP)))


def reinitialise(model: Model, layers: int, seed: int) -> None:
    """Draw the weights of the highest layers, of the norm above them and of the pooler anew (Zhang et al. 2021); 0 does nothing.

    The draw is a function of the seed and of no other draw: pretraining with the same seed began with other weights.
    """
    if layers > model.settings.layers:
        raise ValueError(
            f"tuning.reinitialise: {layers} layers asked for, but the encoder has {model.settings.layers}; use that or less."
        )
    if layers == 0:
        return
    names = [f"encoder.layers.{index}" for index in range(model.settings.layers - layers, model.settings.layers)]
    names += ["encoder.norm", *(["heads.pooler"] if "pooler" in model.heads else [])]
    for name in names:
        initialise(model.get_submodule(name), model.settings, key(seed, "reinitialise"), name)


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


def settle(model: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Make an ordinary model of one that has trained: assert what was frozen, then merge adapters where there are any.

    ``start`` is the state dict from before the training, after the tuning.
    """
    assert_frozen(model, start)
    lora.merge(model)


def _train_with_heads(model: Model, chosen: Callable[[str], bool]) -> bool:
    """Train the task heads and what is ``chosen`` of the encoder, by full name, and nothing else; say whether anything was."""
    matched, heads = False, TASK_HEADS if "task" in model.heads else CLOZE_HEADS
    for name, parameter in model.named_parameters():
        here = name.startswith("encoder.") and chosen(name)
        parameter.requires_grad_(here or name.startswith(heads))
        matched = matched or here
    return matched
