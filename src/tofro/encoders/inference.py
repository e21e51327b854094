"""Running models to look at what they say, without changing them.

In: modules. Out: a context in which they are in evaluation mode and no graph is built. Leaves out ``torch.inference_mode``:
tensors that a module caches under it could not be trained with later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(*modules: nn.Module) -> Iterator[None]:
    """Put ``modules`` into evaluation mode without gradients, and give every submodule its own mode back at the end."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's first parameter."""
    return next(module.parameters()).device
