"""The one way in which long work tells how far it is. Leftmost in the house; what the eye sees is runs/progress.py."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]  # (done, total or None where it is not known)
