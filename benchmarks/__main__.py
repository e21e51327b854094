"""``python -m benchmarks [NAMES...]``: run benchmarks, print one table, write outputs/bench.json.

Without names, all but those that take many minutes (``memory``) run.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

import torch

from benchmarks.material import Options
from benchmarks.report import Row, show, write, write_markdown

NAMES = ("pretraining", "modernbert", "fine_tuning", "arithmetic", "store", "gpu")
BY_NAME_ONLY = ("memory",)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory, side by side with peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*NAMES, *BY_NAME_ONLY)))
    parser.add_argument("--corpus", help="text file or folder, as corpus.path; without it the built-in corpus")
    parser.add_argument("--task", help="file or folder, as task.path; without it the built-in pydoc_kind")
    parser.add_argument(
        "--quick", action="store_true", help="a check that all runs: tiny sizes, two rounds, numbers that mean nothing"
    )
    parser.add_argument("--threads", type=int, help="torch threads; without it torch's choice")
    parser.add_argument("--outputs", default="outputs", help="folder of bench.json and of the shared cache")
    parser.add_argument("--markdown", type=Path, help="also write the table here")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in (*NAMES, *BY_NAME_ONLY):
            parser.error(f"no benchmark is called {name}; there are {', '.join((*NAMES, *BY_NAME_ONLY))}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    options = Options(arguments.corpus, arguments.task, arguments.quick, arguments.outputs)
    settings = {"corpus": Path(arguments.corpus).name if arguments.corpus else "pydoc", "quick": arguments.quick or None}
    settings["task"] = Path(arguments.task).name if arguments.task else "pydoc_kind"
    rows: list[Row] = []
    for name in arguments.names or NAMES:
        started = time.perf_counter()
        print(f"{name} ...", flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").run(options)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        write(rows, settings, Path(arguments.outputs) / "bench.json")  # after each, so that a later one that fails loses nothing
        if arguments.markdown:
            write_markdown(rows, settings, arguments.markdown)
    show(rows)


if __name__ == "__main__":
    main()
