"""What the verbs of the command share: exit codes, their parsers, what several of them take or refuse."""

from __future__ import annotations

import argparse

from tofro.runs import ranks

DONE, BUG, MISTAKE = 0, 1, 2


def parser_of(name: str, summary: str, with_help: bool = True) -> argparse.ArgumentParser:
    """Return the parser of a verb."""
    return argparse.ArgumentParser(prog=f"tofro {name}", description=summary, allow_abbrev=False, add_help=with_help)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Let a verb that builds from configs take modules of the user's own."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PREFIX",
        help="a module of yours that a _target_ may name, such as my_package.losses",
    )


def refuse_ranks(what: str) -> None:
    """Many runs, one after the other, start ranks of their own: each rank of a group would sweep for itself."""
    if ranks.place() is not None:
        raise ValueError(f"{what} starts the ranks of each run itself; leave torchrun or srun out and set trainer.devices")
