"""The command ``tofro``: verbs, their arguments and exit codes.

In: the words after ``tofro``. Out: an exit code: 0 done, 1 a bug or a result that did not come out again, 2 a mistake of the
user, 130 Ctrl-C, 143 another stop signal (SIGTERM, SIGUSR1, SIGUSR2). Each verb imports what it needs when it is called, so that
help and mistakes answer at once; torch comes only with something to compute. A ValueError that tofro itself raises is the user's
to mend and is shown without a traceback; anything else is a bug and keeps it.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tofro import cli_studies, cli_use
from tofro.cli_parts import BUG, DONE, MISTAKE, add_trust, parser_of, refuse_ranks
from tofro.config.errors import is_mistake
from tofro.runs import ranks
from tofro.runs.ranks import RankFailed
from tofro.runs.signals import INTERRUPTED, Stopped, listening

if TYPE_CHECKING:
    from tofro.runs.folder import Result


@dataclass(frozen=True)
class Verb:
    """A verb: its line in the help, how its arguments are read, and what it does."""

    summary: str
    parser: Callable[[], argparse.ArgumentParser]
    act: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line and return the exit code. A rank that torchrun or srun started ends here."""
    words = list(sys.argv[1:] if argv is None else argv)
    if ranks.place() is None:
        return _carry_out(words)
    try:
        code = _carry_out(words)
    except SystemExit as left:  # its training is over, or another rank tells the user why
        code = int(left.code or 0)
    except Exception:
        traceback.print_exc()
        code = BUG
    return ranks.end(code)


def _carry_out(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except Stopped as stopped:
        if ranks.says(str(stopped)):
            print(f"tofro: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("tofro: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except ValueError as error:
        if not is_mistake(error):
            raise
        if ranks.says(str(error)):
            print(f"tofro: {error}", file=sys.stderr)
        return MISTAKE
    except RankFailed as failure:
        print(f"tofro: {failure}", file=sys.stderr)
        return BUG


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return DONE
    if words[0] == "--version":
        import tofro

        print(f"tofro {tofro.__version__}")
        return DONE
    if words[0] in ("run", "study") or words[0] not in VERBS:  # before anything repeats a word or writes it down
        from tofro.config.credentials import refuse_credentials

        refuse_credentials(words)
    verb = VERBS.get(words[0])
    if verb is None:
        near = difflib.get_close_matches(words[0], VERBS, n=1)
        hint = f"did you mean `tofro {near[0]}`?" if near else "`tofro --help` lists the verbs"
        if "=" in words[0]:
            hint = f"did you mean `tofro run {' '.join(words)}`?"
        raise ValueError(f"no verb {words[0]}; {hint}")
    flags = [f"--{name}" for name in cli_studies.REPORT_FILES]  # a bare one takes its default path and not the word after it
    rest = [f"{word}=" if words[0] == "report" and word in flags else word for word in words[1:]]
    return verb.act(verb.parser().parse_intermixed_args(rest))


def _help() -> str:
    verbs = "\n".join(f"  tofro {name:<8} {verb.summary}" for name, verb in VERBS.items())
    return (
        "tofro: two-way transfer between a pretrained encoder and the models fine-tuned from it\n\n"
        f"{verbs}\n\n"
        "`tofro VERB --help` says more; `tofro run --help` lists every config group, option and key.\n"
        "Example: tofro run method=pretrain encoder=tiny budget.minutes=2"
    )


class _ConfigHelp(argparse.Action):
    """``tofro run --help``: the groups, options and keys after the arguments; read only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help="show this page and leave")

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        from tofro.config.describe import describe

        print(f"{parser.format_help()}\n{describe()}")
        parser.exit()


def _run_parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "run", "One run: make it, resume it, or show its result where it is finished. With -m, a Hydra multirun.", with_help=False
    )
    parser.add_argument("-h", "--help", action=_ConfigHelp)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or key=value, in Hydra's grammar")
    parser.add_argument("-m", "--multirun", action="store_true", help="run every combination: seed=0,1,2 method=full,two_way")
    parser.add_argument("--cfg", choices=("job",), help="print the config instead of running it")
    add_trust(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from tofro.config.build import trust
    from tofro.config.compose import compose, multirun

    for prefix in arguments.trust:
        trust(prefix)
    if arguments.multirun:
        refuse_ranks("-m")
        if arguments.cfg:
            raise ValueError("--cfg prints one run's config; leave out -m")
        with listening():
            return max(multirun(arguments.overrides, _job), key=(DONE, MISTAKE, BUG).index, default=DONE)
    ranks.join()  # where torchrun or srun started several: they meet first, so that a mistake is told once
    with ranks.told():
        config = compose(arguments.overrides)
    if arguments.cfg:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), end="")
        return DONE
    from tofro.runs.run import run

    first = ranks.place() is None or ranks.is_first()
    result = run(config, arguments.overrides)
    if first:
        _show(result)
    return DONE


def _job(config: Any) -> int:
    """Carry out one job of a multirun. A failed one is shown and the others go on; the exit code tells in the end."""
    from tofro.config.compose import job_overrides
    from tofro.config.schema import seal
    from tofro.runs.run import run

    overrides = job_overrides()
    print(f"tofro run {' '.join(overrides)}", file=sys.stderr, flush=True)
    try:
        _show(run(seal(config), overrides))
    except Exception as error:  # whatever it is, the other jobs have a right to run
        if is_mistake(error):
            print(f"tofro: {error}", file=sys.stderr, flush=True)
            return MISTAKE
        traceback.print_exc()
        return BUG
    return DONE


def _show(result: Result) -> None:
    """Print a run's metrics and where its folder is."""
    width = max((len(name) for name in result.metrics), default=0)
    for name, value in result.metrics.items():
        print(f"  {name:<{width}}  {value:.4f}" + ("  <- score" if name == result.data.get("score") else ""))
    for note in result.data.get("notes", ()):
        print(f"  note: {note}")
    if other := (result.data.get("lineage") or {}).get("trained_by"):
        print(f"  trained by run {other}, which differs from this one in its measures alone")
    print(f"{'finished before' if result.reused else 'finished'}: {result.folder}", flush=True)


VERBS = {
    "run": Verb("one run, or with -m a Hydra multirun", _run_parser, _run),
    "study": Verb("every run of a study, skipping finished ones, then its report", cli_studies.study_parser, cli_studies.study),
    "report": Verb("tables, figures and a page from finished runs", cli_studies.report_parser, cli_studies.report),
    "dash": Verb("a local dashboard over runs, live, without an account", cli_use.dash_parser, cli_use.dash),
    "predict": Verb("labels and probabilities of texts", cli_use.predict_parser, cli_use.predict),
    "export": Verb("a Hugging Face folder with a model card", cli_use.export_parser, cli_use.export),
    "inspect": Verb("what a task or a corpus holds", cli_use.inspect_parser, cli_use.inspect),
    "doctor": Verb("what will work on this machine", cli_use.doctor_parser, cli_use.doctor),
}
