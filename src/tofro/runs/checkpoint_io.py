"""Checkpoints on disk: written beside their target by a thread, synced, renamed, and believed only if every byte is right.

``step-<n>/`` holds ``state.ckpt`` (tensors and plain values) and ``manifest.json`` (its sha256). In: Lightning's checkpoint,
copied to memory that no later step touches before :meth:`VerifiedIO.save_checkpoint` returns. Leaves out when
to save (checkpoints.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

KEEP = 2  # checkpoints on disk: the newest, and one to fall back on
STATE, MANIFEST = "state.ckpt", "manifest.json"


class Frozen(dict[str, Tensor]):
    """Tensors in CPU memory that nobody writes to any more: a snapshot takes them as they are."""


class VerifiedIO(CheckpointIO):
    """Writes checkpoint folders in a thread, one at a time. ``needs`` are files that must be on the disk before a checkpoint is.

    What goes wrong in the thread is raised in the caller by the next :meth:`check`, :meth:`wait` or save.
    """

    def __init__(self, needs: Sequence[Path] = ()) -> None:
        self.needs = tuple(needs)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._abandoned = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Copy ``checkpoint`` and return; the folder ``path`` appears when all of it is on the disk."""
        self.wait()
        state = snapshot(checkpoint, {})
        # a daemon, so that a second Ctrl-C need not wait for it
        self._thread = threading.Thread(target=self._write, args=(state, Path(path)), name="checkpoint", daemon=True)
        self._thread.start()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the state of the checkpoint folder ``path`` in CPU memory; nothing but tensors and plain values is read."""
        state: dict[str, Any] = torch.load(Path(path) / STATE, map_location="cpu", weights_only=True)
        return state

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the checkpoint folder ``path``."""
        shutil.rmtree(path)

    def check(self) -> None:
        """Raise what went wrong in the thread, if anything did."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk; raise what went wrong."""
        self._join()
        self.check()

    def teardown(self) -> None:
        """Wait for the thread; an error that ends the run counts more than one of the thread."""
        if not self._abandoned:
            self._join()

    def abandon(self) -> None:
        """Never wait again: whatever is half written stays beside its target and is not believed."""
        self._abandoned = True

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, state: dict[str, Any], target: Path) -> None:
        try:
            write(state, target, self.needs)
        except OSError as error:
            reason = error.strerror or str(error)
            self._error = ValueError(
                f"{target}: the checkpoint could not be written ({reason}); older ones are as they were. "
                "Make room, or set outputs_dir, and the same command resumes"
            )
        except BaseException as error:  # a bug: it ends the run at its next step
            self._error = error


def write(state: dict[str, Any], target: Path, needs: Sequence[Path] = ()) -> None:
    """Write a checkpoint folder beside ``target``, bring it to the disk, rename it and forget the oldest."""
    require_finite(state)
    folder = target.parent
    for left_by_a_kill in folder.glob(".writing-*"):
        shutil.rmtree(left_by_a_kill)
    beside = folder / f".writing-{target.name}"
    beside.mkdir(parents=True)
    with (beside / STATE).open("wb") as file:
        digest = _save(state, file)
    (beside / MANIFEST).write_bytes(manifest(target.name, digest))
    for path in (*needs, beside / STATE, beside / MANIFEST, beside):
        sync(path)
    if target.exists():
        shutil.rmtree(target)
    beside.rename(target)
    sync(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)


def manifest(name: str, digest: str) -> bytes:
    """Return the content of the manifest of checkpoint folder ``name``: a function, so that no byte of it can be wrong unseen."""
    return json.dumps({"step": int(name.rpartition("-")[2]), "sha256": {STATE: digest}}).encode()


class _Hashing:
    """A file for ``torch.save`` that hashes what passes and keeps the system's own error, for which torch has another."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            self.hash.update(data)
            return int(self.file.write(data))
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Leave it to the file."""


def _save(state: dict[str, Any], file: Any) -> str:
    """Write ``state`` and return the sha256 of what was written, in hex."""
    hashing = _Hashing(file)
    try:
        torch.save(state, hashing)  # type: ignore[arg-type]
    except Exception as error:
        if hashing.error is not None:
            raise hashing.error from error
        raise
    return hashing.hash.hexdigest()


def snapshot(value: Any, copied: dict[Any, Tensor]) -> Any:
    """Return a copy of nested containers whose tensors are copies in CPU memory; ``copied`` keeps tied tensors tied."""
    if isinstance(value, Tensor):
        place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() == 0 or place not in copied:
            copied[place] = value.detach().to("cpu", copy=True)
        return copied[place]
    if isinstance(value, Frozen):
        return dict(value)
    if isinstance(value, dict):
        return {name: snapshot(each, copied) for name, each in value.items()}
    if isinstance(value, list):
        return [snapshot(each, copied) for each in value]
    if type(value) is tuple:
        return tuple(snapshot(each, copied) for each in value)
    return value


def require_finite(value: Any) -> None:
    """Assert that no tensor in nested containers holds a NaN or an infinity: no step that is not finite reaches the weights."""
    if isinstance(value, Tensor) and value.is_floating_point():
        assert bool(value.isfinite().all()), "a weight or a moment of the optimizer is not finite"
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            require_finite(each)


def newest_intact(folder: Path) -> Path | None:
    """Return the newest checkpoint folder whose bytes are right, or None where there has been no checkpoint.

    A damaged one is renamed to ``damaged-…`` with a warning. Where none is left, ValueError: a run never starts afresh in
    silence.
    """
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        if _intact(candidate):
            return candidate
        set_aside = candidate.with_name(f"damaged-{candidate.name}")
        shutil.rmtree(set_aside, ignore_errors=True)  # of the same step, from an earlier time
        candidate.rename(set_aside)
        warnings.warn(f"checkpoint {set_aside} does not match its manifest and was set aside", stacklevel=2)
    if any(folder.glob("damaged-*")):
        raise ValueError(f"{folder}: every checkpoint is damaged; delete the run folder to start it afresh")
    return None


def _intact(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return (folder / MANIFEST).read_bytes() == manifest(folder.name, file_hash(folder / STATE))
    return False


def file_hash(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never points at nothing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
