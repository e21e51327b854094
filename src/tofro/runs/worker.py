"""One worker of a study: ``python -m tofro.runs.worker [--trust=PREFIX] PIPE PARENT LOGS``.

In: names and overrides of runs, through the pipe. Out: how each ended. What a run prints goes to a file of its own, so that
several at a time don't garble the terminal. The worker ends when the pipe does, at a stop signal once its run has saved, and
wherever it is when its parent is gone. Who starts it: local.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from tofro.config.build import trust
from tofro.runs.jobs import attempt
from tofro.runs.signals import Stopped, listening
from tofro.runs.watch import Watch, die_with_parent


def main(words: list[str]) -> int:
    """Carry out what comes through the pipe until it ends; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tofro.runs.worker", allow_abbrev=False)
    parser.add_argument("pipe", type=int)
    parser.add_argument("parent", type=int)
    parser.add_argument("logs", type=Path)
    parser.add_argument("--trust", action="append", default=[])
    arguments = parser.parse_args(words)
    die_with_parent()
    Watch(arguments.parent)  # where the system does not see to it, or the parent was gone before
    for prefix in arguments.trust:
        trust(prefix)
    try:
        with Connection(arguments.pipe) as pipe, listening():
            warm_up()
            while True:
                name, overrides = pipe.recv()
                log = _write_to(arguments.logs / f"{name}.log")
                ending = attempt(overrides)
                _finish(log)
                pipe.send(ending)
    except (EOFError, OSError):
        return 0
    except Stopped as stop:
        return stop.exit_code


def warm_up() -> None:
    """Import what every run needs: torch and Lightning, once for all runs."""
    import tofro.runs.methods  # noqa: F401


def _write_to(log: Path) -> Path:
    """Let everything that this process prints go to the end of ``log``."""
    sys.stdout.flush()
    sys.stderr.flush()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    return log


def _finish(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if not log.stat().st_size:
        log.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
