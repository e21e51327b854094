"""A freed buffer is found again without new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import resource, sys
import numpy as np
from tofro.runs.memory import keep_large_buffers

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8_000_000)  # 64 MB, 15,625 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
if not keep_large_buffers():
    sys.exit(3)
faults()
print(faults())
"""


def test_a_freed_buffer_is_found_again() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60)
    if child.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert int(child.stdout) < 100, child.stderr
