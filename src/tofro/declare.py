"""How a settings dataclass declares one key: its default, its meaning and its range.

Torch-free and at the far left of the house: every room's ``settings.py`` uses it, ``config/schema.py`` reads it back to check
values and to answer a mistyped one. A range stands here and nowhere else.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    multiple_of: int | None = None,
) -> Any:
    """Return a dataclass field whose metadata carries ``doc`` and the accepted range.

    ``low``/``high`` are inclusive bounds, ``above``/``below`` exclusive ones. A list, dict or dataclass default is copied for
    every instance.
    """
    metadata = {
        "doc": doc,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "choices": choices,
        "multiple_of": multiple_of,
    }
    metadata = {name: value for name, value in metadata.items() if value is not None}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
