"""``python -m benchmarks [NAMES...]``: run benchmarks, print one table, write outputs/bench.json.

Without names, all run but ``memory``, which takes many minutes by itself. Numbers are written after each, so that none is lost.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

import torch

from benchmarks.material import Options
from benchmarks.report import Row, show, write, write_markdown

NAMES = (
    "pretraining",
    "modernbert",
    "fine_tuning",
    "two_way",
    "predicting",
    "prompting",
    "arithmetic",
    "store",
    "waiting",
    "checkpoints",
    "study",
    "gpu",
)
BY_NAME_ONLY = ("memory",)


def main() -> int:
    """Read the command line, run, show; return 1 where a benchmark failed."""
    arguments = read_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    how = (arguments.quick, arguments.precision, arguments.compile)
    options = Options(arguments.corpus, arguments.task, *how, arguments.outputs)
    settings = {
        "corpus": Path(arguments.corpus).name if arguments.corpus else "pydoc",
        "task": Path(arguments.task).name if arguments.task else "pydoc_kind",
    } | ({"quick": True} if arguments.quick else {})
    rows: list[Row] = []
    failed = False
    for name in chosen(arguments.names):
        started = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"benchmarks.{name}").run(options)
        except Exception as error:  # the others' hours are not lost for one
            traceback.print_exc()
            rows.append(Row(name, "failed", None, note=f"{type(error).__name__}: {error}"))
            failed = True
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        write(rows, settings, Path(arguments.outputs) / "bench.json")
        if arguments.markdown:
            write_markdown(rows, settings, arguments.markdown)
    show(rows)
    return int(failed)


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory, side by side with peers.")
    names = (*NAMES, *BY_NAME_ONLY, "all")
    listed = f"{', '.join(NAMES)}; by name only: {', '.join(BY_NAME_ONLY)}; all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=listed)
    parser.add_argument("--corpus", help="text file or folder, as corpus.path; without it the built-in corpus")
    parser.add_argument("--task", help="file or folder, as task.path; without it the built-in pydoc_kind")
    parser.add_argument("--quick", action="store_true", help="a check that all runs: tiny sizes, two rounds, meaningless numbers")
    parser.add_argument("--threads", type=int, help="torch threads; without it torch's choice")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of pretraining and modernbert, both sides")
    parser.add_argument("--compile", action="store_true", help="compile both sides of pretraining and modernbert")
    parser.add_argument("--outputs", default="outputs", help="folder of bench.json and of the cache that runs share")
    parser.add_argument(
        "--markdown", type=Path, help="write the table here too; into a file with the marks of a table, between them"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in names:
            parser.error(f"no benchmark is called {name}; there are {', '.join(names)}")
    return arguments


def chosen(names: list[str]) -> list[str]:
    """Return what to run, for the names given."""
    if "all" in names:
        return [*NAMES, *BY_NAME_ONLY]
    return names or list(NAMES)


if __name__ == "__main__":
    sys.exit(main())
