"""The verbs of many runs, ``study`` and ``report``: their arguments, what they print.

In: parsed arguments. Out: an exit code. As in cli.py, imports stand inside, so that help and mistakes answer at once. Left out:
how a mistake is shown (cli.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tofro.cli_parts import BUG, DONE, MISTAKE, add_trust, parser_of, refuse_ranks
from tofro.runs.signals import listening


def study_parser() -> argparse.ArgumentParser:
    """Return how ``tofro study`` is asked."""
    parser = parser_of("study", "Every run of a study, skipping finished ones, then its report.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with study.yaml, such as experiments/quickstart")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="for every run; launcher.workers=2 makes two at a time")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it will cost, and run nothing")
    add_trust(parser)
    return parser


def study(arguments: argparse.Namespace) -> int:
    """Run what is not finished of a study, then report."""
    from tofro.config.build import trust
    from tofro.runs.study import run_study

    refuse_ranks("study")
    for prefix in arguments.trust:
        trust(prefix)
    with listening():
        place, failed, made = run_study(arguments.folder, arguments.overrides, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        from tofro.reports import report as reports

        page = place / "report.html"
        reports.report([place], html=None if not made and reports.is_current(page) else page)
        print(f"page: {page}")
    return MISTAKE if failed else DONE


REPORT_FILES = {
    "html": "report.html",
    "latex": "tables.tex",
    "markdown": "tables.md",
    "csv": "tables",
    "figures": "figures",
    "paper": "paper",
}


def report_parser() -> argparse.ArgumentParser:
    """Return how ``tofro report`` is asked."""
    parser = parser_of("report", "Tables of the runs under folders, from their result.json files alone.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run folders, or folders that hold some")
    for name, file in REPORT_FILES.items():
        parser.add_argument(
            f"--{name}", metavar="PATH", help=f"written too, to --{name}=PATH; --{name} alone: {file} in the first DIR"
        )
    parser.add_argument(
        "--check",
        action="store_true",
        help="instead: run the smallest run in DIR again and say whether its result is the same; exit code 1 where it is not",
    )
    return parser


def report(arguments: argparse.Namespace) -> int:
    """Print the tables of runs, and write what is asked for."""
    if arguments.check:
        return _check(arguments)
    from tofro.reports import report as reports

    paths: dict[str, Any] = {}
    for name, file in REPORT_FILES.items():
        asked = getattr(arguments, name)
        paths[name] = None if asked is None else Path(asked) if asked else arguments.folders[0] / file
    reports.report(arguments.folders, **paths)
    return DONE


def _check(arguments: argparse.Namespace) -> int:
    """Run a study's smallest run again; a result that does not come out again ends as a bug does, with 1."""
    if len(arguments.folders) > 1 or any(getattr(arguments, name) is not None for name in REPORT_FILES):
        raise ValueError("--check takes one DIR and writes nothing; call `tofro report` again for the rest")
    refuse_ranks("report --check")
    from tofro.reports.check import check, show

    checked = check(arguments.folders[0])
    show(checked)
    return DONE if checked.holds else BUG
