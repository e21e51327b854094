"""Shared by the tests of the config room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tofro.config import compose


@pytest.fixture
def conf() -> Path:
    """Return conf/."""
    return compose.conf_folder()
