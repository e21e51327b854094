"""Runs that compute nothing, in real workers of a real study: plans, locks, folders, pipes and signals are tofro's own.

``python -m tests.runs.stand_in PIPE PARENT LOGS`` is a worker, ``... drive DIR OVERRIDES`` carries out a study with such workers.
What a run does stands in its seed: see ``act``. Every run that came to its end is a line of ``journal`` in outputs_dir.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tofro.config.build import resolve
from tofro.runs import local, worker
from tofro.runs import run as running
from tofro.runs.folder import machine, write_json
from tofro.runs.signals import listening, noted, patiently

KILLED, REFUSED, BROKEN, ENDLESS = 101, 102, 103, 104  # seeds of runs that end otherwise


def act(config: Any, folder: Path) -> None:
    """Do what the seed says; most do nothing for a twentieth of a second."""
    print(f"seed {config.seed} at work", flush=True)
    if config.seed == KILLED and not (folder / "tried").exists():
        (folder / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == REFUSED:
        resolve("os.system")
    if config.seed == BROKEN:
        raise RuntimeError("a bug")
    if config.seed == ENDLESS:
        (folder / "begun").write_text(str(os.getpid()), encoding="utf-8")
        with listening(), patiently():
            while not noted():
                time.sleep(0.01)
            (folder / "saved").touch()
    time.sleep(0.05)


def carry_out(config: Any, overrides: list[str], who: Any, folder: Path) -> dict[str, Any]:
    """Stand in for a run's work; like that, write the result last."""
    started = time.monotonic()
    act(config, folder)
    data = {
        "id": who.id,
        "method": config.method.name,
        "seed": config.seed,
        "metrics": {},
        "config": who.full,
        "cost": {"seconds": round(time.monotonic() - started, 3)},
        "machine": machine(),
        "worker": {"pid": os.getpid(), **{name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}},
    }
    write_json(folder / "result.json", data)
    with (Path(config.outputs_dir) / "journal").open("a", encoding="utf-8") as journal:
        journal.write(f"{folder.name}\n")
    return data


def main(words: list[str]) -> int:
    """Be a worker, or the process that carries out a study."""
    running._carry_out = carry_out  # type: ignore[attr-defined]
    worker.warm_up = lambda: None
    if words[0] != "drive":
        return worker.main(words)
    from tofro.runs.study import run_study

    local.MODULE = "tests.runs.stand_in"
    with listening():
        return 2 if run_study(Path(words[1]), words[2:]).failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
