"""A run's folder: where it is, whether it is finished, and what is written there before, during and after.

In: an identity and its config. Out: ``config.yaml``, ``environment.json``, ``identity.json`` and, last of all, ``result.json``.
Torch-free, so that asking about finished runs is quick.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (  # that bear on results
    *("tofro", "torch", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "tokenizers", "safetensors"),
    *("sentencex", "rjieba", "scikit-learn", "scipy", "numpy"),
)


class Held(ValueError):
    """Another process is running this config: what it makes will be there when it is done."""


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, what result.json says, and whether it was there already."""

    folder: Path
    data: dict[str, Any]
    reused: bool = False

    @property
    def metrics(self) -> dict[str, float]:
        """Metric names and numbers."""
        numbers: dict[str, float] = self.data["metrics"]
        return numbers

    @property
    def score(self) -> float | None:
        """The primary metric, where the method has one."""
        name = self.data.get("score")
        return None if name is None else self.metrics[name]


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return result.json of a finished run, None of an unfinished one; ValueError where the file is broken."""
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete the file and the run resumes") from None
    if not isinstance(data, dict) or "id" not in data:
        raise ValueError(f"{path}: not the result of a run; delete the file and the run resumes")
    return data


def check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Compare the full identity with the one that made the folder: eight hex digits could, in principle, collide."""
    if kept_identity(folder) not in (None, json.loads(json.dumps(identity))):
        raise ValueError(f"{folder}: holds a run with another config under the same id; move the folder away and run again")


def kept_identity(folder: Path) -> dict[str, Any] | None:
    """Return what the run in ``folder`` is made of, None where nothing has begun; ValueError where the file is broken."""
    path = folder / "identity.json"
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete the file, and the run writes it anew") from None
    return kept


def write_json(path: Path, data: Any) -> None:
    """Write JSON beside its target and rename, so that a reader sees all of it or none."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; :class:`Held` where another one is running the same config."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(f"{folder}: another process is running this config; wait for it, or stop it") from None
        yield


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that bear on results, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what the machine is, without its name or its users."""
    return {"system": platform.system(), "architecture": platform.machine(), "cpu": cpu_name(), "cores": os.cpu_count()}


def cpu_name() -> str:
    """Return the processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def environment(threads: int | None = None) -> dict[str, Any]:
    """Return what a reader needs to run this again: versions, machine, threads (those asked for, or what torch takes), commit."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    used = threads or (int(asked) if asked.isdigit() else None) or os.cpu_count()
    about = {"versions": versions(), "machine": machine(), "threads": used}
    return about | {"git": git_commit(), "executable": Path(sys.executable).name}


def git_commit() -> str | None:
    """Return the commit of the checkout that tofro runs from, with ``+`` where it has changes; None outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - a fixed program, arguments of ours
        ["git", *arguments],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=5,
        check=True,
    )
    return done.stdout.strip()
