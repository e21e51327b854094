"""tofro: two-way transfer between a pretrained text encoder and the models fine-tuned from it.

``tofro.run(["method=full", "task=pydoc_kind"])`` carries out one run and returns its result; ``tofro.load("RUN")`` opens a
trained model. Importing tofro is light.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tofro.runs.folder import Result
    from tofro.runs.loaded import Loaded

__all__ = ["load", "run"]


def run(overrides: Sequence[str] = ()) -> Result:
    """Compose a config from overrides, as ``tofro run`` does, and carry it out; a finished run's result comes back at once.

    Raises ValueError for every mistake of the user, config mistakes among them.
    """
    from tofro.config.compose import compose
    from tofro.runs.run import run as carry_out

    return carry_out(compose(list(overrides)), list(overrides))


def load(folder: str | Path, max_length: int | None = None, device: str | None = None) -> Loaded:
    """Open a finished run's folder (its ``models/ft``, else its ``models/pre``), a model folder, or a model of the hub by name.

    ``tofro predict`` does the same. What comes back has ``encode(texts) -> (N, D)``, ``similarity(a, b) -> (N, M)``,
    ``fill_mask(text, k)`` and ``predict(texts)``. ``max_length`` is how many tokens of a text are read; without it as many as in
    the run that made the model, or as its sentence-transformers folder says, elsewhere at most 512. ``device`` is ``cpu`` or
    ``cuda``; None takes CUDA where it is. Raises ValueError for a folder that can't be used, or a name that can't be fetched.
    """
    from tofro.runs.loaded import load as open_folder

    return open_folder(folder, max_length, device)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("tofro")
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            return "0+unknown"
    raise AttributeError(f"module 'tofro' has no attribute {name!r}")
