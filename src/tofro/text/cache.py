"""Where things that can be made again are kept between runs, and how a file is put there whole.

In: a folder or a text. Out: a folder, or a file that appears complete or not at all. What is worth keeping is each caller's
choice.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: the environment variable ``TOFRO_CACHE``, else ``~/.cache/tofro``. It may not exist yet."""
    chosen = os.environ.get("TOFRO_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tofro"


def write_cache(path: Path, text: str) -> bool:
    """Write ``text`` to ``path`` through a temporary sibling and a rename; return whether that worked.

    A cache that can't be written (a read-only home, a full disk) costs time and never a run, so this reports instead of raising.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
        return True
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        return False
