"""Peak memory of preparing a corpus of about 60 MB and one ten times as large: tokenizer, token stores, index of samples.

Each is prepared in a process of its own by the run's own path, into a folder that is thrown away. Memory is the proportional set
size of that process and its children, sampled all the while: pages that processes share count once, mapped files as far as they
are resident. Linux only. The large corpus is the small one repeated, so that text and vocabulary are the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.material import Options
from benchmarks.report import Row
from benchmarks.store import write_text
from tofro.batches.pairs import index_samples

TIMES, GOAL, EVERY = 10, 200.0, 0.1  # repetitions; MB; seconds between samples


def run(options: Options) -> list[Row]:
    """Return one row: the difference of the two peaks."""
    if not sys.platform.startswith("linux"):
        return [Row("memory", "preparing a corpus", None, note="needs Linux's /proc")]
    with tempfile.TemporaryDirectory() as place:
        small, large = (Path(place) / name for name in ("small", "large"))
        for folder in (small, large):
            folder.mkdir()
        corpus = options.context("method=pretrain").corpus
        write_text(corpus.documents("train"), small / "train.txt", 500 if options.quick else None)
        write_text(corpus.documents("validation"), small / "validation.txt", 50)
        shutil.copy(small / "validation.txt", large)
        with (large / "train.txt").open("wb") as file:
            for _ in range(TIMES):
                with (small / "train.txt").open("rb") as source:
                    shutil.copyfileobj(source, file)
        sizes = [(folder / "train.txt").stat().st_size / 1e6 for folder in (small, large)]
        peaks, seconds = zip(*(peak_of(folder, Path(place) / "outputs") for folder in (small, large)), strict=True)
    note = " and ".join(
        f"{peak:,.0f} MB in {took:.0f} s for {size:,.1f} MB of text"
        for peak, took, size in zip(peaks, seconds, sizes, strict=True)
    )
    return [Row("memory", "preparing a corpus", peaks[1] - peaks[0], " MB", goal=GOAL, at_most=True, note=f"peaks of {note}")]


def peak_of(corpus: Path, outputs: Path) -> tuple[float, float]:
    """Return the peak in MB and the seconds of preparing ``corpus`` in another process."""
    started, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.memory", corpus, outputs])
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(EVERY)
    if process.returncode:
        raise RuntimeError(f"preparing {corpus} ended with exit code {process.returncode}")
    shutil.rmtree(outputs)
    return peak / 1e6, time.perf_counter() - started


def resident(pid: int) -> float:
    """Return the proportional set size, in bytes, of a process and its descendants; those that have just ended count nothing."""
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def prepare(corpus: str, outputs: str) -> None:
    """Prepare as a run does, up to where training would start."""
    context = Options(corpus, outputs=outputs).context("method=pretrain", "encoder=tiny")
    store = context.store("train")
    context.store("validation")
    index_samples(store, context.settings("objective"))


if __name__ == "__main__":
    prepare(*sys.argv[1:])
