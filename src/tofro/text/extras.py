"""What an extra brings: imported when something needs it, and missed in words; and the hub, where there is no way to it.

In: the name of a module and what needs it. Out: the module, or a ValueError with the command that installs it.
"""

from __future__ import annotations

import importlib
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def need(module: str, what: str) -> Any:
    """Import a module of the extra `hub`; ValueError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{what} needs the extra hub, which is not installed: pip install 'tofro[hub]'") from error


def open_saved(folder: Path, key: str) -> Any:
    """Return what ``save_to_disk`` of `datasets` wrote, a dataset or a dictionary of its splits; ``key`` named the folder."""
    library = need("datasets", f"{key}={folder} is a saved dataset, and reading it")
    try:
        return library.load_from_disk(str(folder))
    except Exception as error:  # a damaged folder shows in many ways
        raise ValueError(f"{folder}: a dataset that can't be opened ({first_line(error)}); save it again") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what a library's error says, not too much of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Let the hub's libraries answer from their cache alone where the hub's name has no address, as they do when told offline.

    By themselves they would try again for half a minute, and say so each time, before they give up.
    """
    hub, datasets = need("huggingface_hub.constants", "the hub"), need("datasets.config", "the hub")
    before = hub.HF_HUB_OFFLINE, datasets.HF_HUB_OFFLINE
    try:
        if not _has_address(str(urlsplit(hub.ENDPOINT).hostname)):
            hub.HF_HUB_OFFLINE = datasets.HF_HUB_OFFLINE = True
        yield
    finally:
        hub.HF_HUB_OFFLINE, datasets.HF_HUB_OFFLINE = before


def _has_address(host: str) -> bool:
    """Say whether a host can be looked up; behind a proxy, whose business that is, it is taken to be."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
