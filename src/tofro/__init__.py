"""tofro: two-way transfer between a pretrained text encoder and the models fine-tuned from it.

``tofro.run(["method=full", "task=pydoc_kind"])`` carries out one run and returns its result. Importing tofro is light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tofro.runs.folder import Result

__all__ = ["run"]


def run(overrides: Sequence[str] = ()) -> Result:
    """Compose a config from overrides, as ``tofro run`` does, and carry it out; a finished run's result comes back at once.

    Raises ValueError for every mistake of the user, config mistakes among them.
    """
    from tofro.config.compose import compose
    from tofro.runs.run import run as carry_out

    return carry_out(compose(list(overrides)), list(overrides))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("tofro")
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            return "0+unknown"
    raise AttributeError(f"module 'tofro' has no attribute {name!r}")
