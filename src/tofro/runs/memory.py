"""Keeps a step's large buffers with the process, so that the next step finds them instead of asking the system again.

In: nothing. Out: nothing but time. glibc gives every block above 32 MB at the latest back to the system when it is freed, and the
next step pays for each of its pages anew: over a tenth of a pretraining step on the CPU. Left out: other C libraries, and GPUs,
where torch keeps its own pool.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_LARGEST = 2**30  # bytes; what is larger, such as the copy of a large model, still goes back at once


def keep_large_buffers() -> bool:
    """Let freed blocks up to 1 GiB stay with the process; return whether the C library took it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
