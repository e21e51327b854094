"""One rank of a run that the launcher has started: ``python -m tofro.runs.rank [--trust=PREFIX] -- FOLDER OVERRIDES``.

In: a run's folder with its config. Out: an exit code; the first rank also writes the result. Why a rank fails goes to the
launcher (launch.py), which tells the user once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from tofro.config.build import trust
from tofro.config.errors import is_mistake
from tofro.config.reload import reload
from tofro.runs import ranks
from tofro.runs.launch import LAUNCHER, note_failure
from tofro.runs.run import run_launched
from tofro.runs.watch import Watch

MISTAKE, BUG = 2, 1


def main(words: list[str]) -> int:
    """Carry out this rank's part and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tofro.runs.rank", allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args(words)
    Watch(parent=int(os.environ[LAUNCHER]))  # from here on, for importing torch takes its time
    try:
        for prefix in arguments.trust:
            trust(prefix)
        run_launched(reload(arguments.folder / "config.yaml"), arguments.overrides, arguments.folder)
    except SystemExit as left:  # its training is over, another rank tells the user why, or a stop signal came
        return int(left.code or 0)
    except Exception as error:
        mistake = is_mistake(error)
        note_failure(error, mistake, traceback.format_exc())
        return MISTAKE if mistake else BUG
    return 0


if __name__ == "__main__":
    ranks.end(main(sys.argv[1:]))
