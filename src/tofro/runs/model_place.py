"""Which model folder a place means: a finished run, a model folder, or a name on the hub.

In: what the user gave ``tofro.load``, ``tofro predict`` or ``tofro inspect --model``. Out: a folder. Left out: what a training
run starts from, which prefers the other of a run's two models (context.py: open_start). No torch.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from tofro.encoders.sentence import find_transformer
from tofro.runs.folder import read_result
from tofro.runs.hub import locate


def find_model(place: str | Path, key: str) -> Path:
    """Return the folder with the encoder and the tokenizer that ``place`` means; ValueError that says what is missing."""
    return find_transformer(find_folder(place, key))


def find_folder(place: str | Path, key: str) -> Path:
    """Return the model folder that ``place`` means, with all of its parts: of a run its ``models/ft``, else its ``models/pre``.

    A string may be a name on the hub, a Path is none. ``key`` is what the place was given to, for the hub's errors.
    """
    path = locate(place, key) if isinstance(place, str) else place.expanduser()
    if not path.is_dir():
        raise ValueError(f"{place}: no such folder; give a finished run's folder, a model folder or a name on the hub")
    if not (path / "models").is_dir() and not (path / "config.yaml").is_file():
        return path
    if read_result(path) is None:
        raise ValueError(f"{place}: this run is not finished; finish it with `tofro run`, or give another folder")
    found = [path / "models" / name for name in ("ft", "pre") if (path / "models" / name).is_dir()]
    if not found:
        raise ValueError(f"{place}: this run keeps no model (no models/ft and no models/pre); its method trains none")
    return found[0]


def length_of_run(folder: Path) -> int | None:
    """Return task.max_length of the run that a model folder lies in, None outside a run."""
    path = folder.parent.parent / "config.yaml"
    if folder.parent.name != "models" or not path.is_file():
        return None
    try:
        return int(yaml.safe_load(path.read_text(encoding="utf-8"))["task"]["max_length"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None
