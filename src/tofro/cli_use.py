"""The verbs that use what is there, ``predict``, ``export``, ``inspect``, ``dash``, ``doctor``: their arguments, what they print.

In: parsed arguments. Out: an exit code. As in cli.py, imports stand inside, so that help and mistakes answer at once. Left out:
how a mistake is shown and which code it ends with (cli.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tofro.cli_parts import DONE, parser_of

if TYPE_CHECKING:
    from tofro.text.inputs import Input

STANDARD = "-"


def predict_parser() -> argparse.ArgumentParser:
    """Return how ``tofro predict`` is asked."""
    parser = parser_of("predict", "Labels and probabilities of texts, by a fine-tuned model.")
    parser.add_argument(
        "model", metavar="MODEL_DIR", help="a finished run's folder (its models/ft), a model folder, or a name on the hub"
    )
    parser.add_argument(
        "source", nargs="?", metavar="FILE", help="texts: .txt (one a line), .csv, .tsv, .jsonl, .parquet, also .gz; - for stdin"
    )
    parser.add_argument("--file", metavar="FILE", help="the same")
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="a text; may be given several times")
    parser.add_argument("--pair", action="append", default=[], nargs=2, metavar=("A", "B"), help="a pair of texts, likewise")
    parser.add_argument("--text-a", metavar="COLUMN", help="column of the first text (text_a, else text; tokens for tags)")
    parser.add_argument("--text-b", metavar="COLUMN", help="column of the second text (text_b where there is one)")
    parser.add_argument("--on-bad-row", choices=("error", "quarantine"), default="error", help="stop at a bad row, or count it")
    parser.add_argument("--json", action="store_true", help="JSON lines with the probability of every label")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens of a text; without it as in the model's own run")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="without it CUDA where it is")
    return parser


def predict(arguments: argparse.Namespace) -> int:
    """Write what a model says of texts."""
    sources = [name for name in (arguments.source, arguments.file) if name is not None]
    given = bool(arguments.text or arguments.pair)
    if len(sources) + given > 1:
        raise ValueError("texts come from one place: FILE, --file, or --text and --pair")
    if not sources and not given:
        if sys.stdin.isatty():
            raise ValueError("no texts: give FILE, --text TEXT, or - and texts on standard input")
        sources = [STANDARD]
    if arguments.text and arguments.pair:
        raise ValueError("--text and --pair can't be mixed: a model is asked about texts or about pairs")
    from tofro.runs.loaded import load
    from tofro.runs.memory import keep_large_buffers

    keep_large_buffers()
    loaded = load(arguments.model, arguments.max_length, arguments.device, "MODEL_DIR")
    tagged = loaded.require_task() == "tags"
    return _predict(arguments, loaded, sources, tagged)


def _predict(arguments: argparse.Namespace, loaded: Any, sources: list[str], tagged: bool) -> int:
    from tofro.runs.predicting import predict as write
    from tofro.runs.progress import progress
    from tofro.text.inputs import InputFile, read_standard

    behind, out = [0], sys.stdout  # kept: a progress bar puts another in its place
    file = None
    inputs: Iterable[Input]
    if not sources:
        inputs = _typed(arguments, tagged)
    elif sources[0] == STANDARD:
        inputs = read_standard(sys.stdin.buffer, tagged)
    else:
        path = Path(sources[0]).expanduser()
        columns = arguments.text_a, arguments.text_b
        inputs = file = InputFile(path, tagged, *columns, arguments.on_bad_row, lambda offset: behind.__setitem__(0, offset))
    with progress("predicting", "texts", not out.isatty()) as report:
        size = file.path.stat().st_size if file else 0

        def told(done: int, total: int | None) -> None:
            report(done, round(done * size / behind[0]) if behind[0] else total)

        count = write(loaded, inputs, out, arguments.json, told)
    if not count:
        raise ValueError(f"{sources[0] if sources else '--text'}: holds no text")
    if file is not None and file.quarantined:
        print(f"tofro: {len(file.quarantined)} bad rows set aside: {'; '.join(file.reasons)}", file=sys.stderr)
    return DONE


def _typed(arguments: argparse.Namespace, tagged: bool) -> list[Input]:
    """Return the texts of the command line."""
    from tofro.text.inputs import Input, split_words

    if tagged and arguments.pair:
        raise ValueError("--pair: the model tags words of one text, not of pairs")
    if not all(text.strip() for text in [*arguments.text, *(text for pair in arguments.pair for text in pair)]):
        raise ValueError("--text, --pair: a text is empty")
    return [Input(text, None, split_words(text) if tagged else ()) for text in arguments.text] + [
        Input(first, second) for first, second in arguments.pair
    ]


def export_parser() -> argparse.ArgumentParser:
    """Return how ``tofro export`` is asked."""
    parser = parser_of("export", "A finished run's model as a Hugging Face folder with a model card.")
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; one that holds anything is refused")
    parser.add_argument("--model", choices=("pre", "ft"), help="which of its models; without it ft where there is one, else pre")
    return parser


def export(arguments: argparse.Namespace) -> int:
    """Write a model folder with a card."""
    from tofro.reports.card import export as write

    name = write(arguments.run, arguments.out, arguments.model)
    print(f"{arguments.out}: the model {name}, with README.md; write the licence into it before you publish it")
    return DONE


def inspect_parser() -> argparse.ArgumentParser:
    """Return how ``tofro inspect`` is asked."""
    parser = parser_of("inspect", "What a task or a corpus holds: rows, labels, lengths, duplicates, leaks, scripts.")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a file, a glob or a folder of splits: tables (.jsonl, .csv, .tsv, .parquet) are a task, .txt a corpus; "
        "or a task by its name in conf/task; or the folder of a run of method=prompt, for what its blanks and words are like",
    )
    parser.add_argument("--text-a", metavar="COLUMN", help="column of the first text (text_a, else text, else tokens)")
    parser.add_argument("--text-b", metavar="COLUMN", help="column of the second text (text_b where there is one)")
    parser.add_argument("--label", metavar="COLUMN", help="column of the label (label, else tags)")
    parser.add_argument(
        "--model", metavar="DIR", help="count tokens too, with the tokenizer of this run, model folder or name on the hub"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def inspect(arguments: argparse.Namespace) -> int:
    """Show what data holds."""
    from tofro.runs.inspected import show
    from tofro.runs.inspecting import Asked, examine

    asked = Asked(arguments.data, arguments.text_a, arguments.text_b, arguments.label, arguments.model)
    found = examine(asked, shown=not arguments.json or sys.stderr.isatty())
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False))
    else:
        show(found)
    return DONE


def dash_parser() -> argparse.ArgumentParser:
    """Return how ``tofro dash`` is asked."""
    parser = parser_of("dash", "TensorBoard over all runs under a folder, at 127.0.0.1, live while they run. Ctrl-C ends it.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs"), metavar="DIR", help="holds runs (outputs)")
    parser.add_argument("--port", type=int, default=6006, help="the first one tried; 0 takes any (%(default)s)")
    return parser


def dash(arguments: argparse.Namespace) -> int:
    """Serve the dashboard until Ctrl-C."""
    from tofro.runs.dash import serve

    serve(arguments.folder, arguments.port)
    return DONE


def doctor_parser() -> argparse.ArgumentParser:
    """Return how ``tofro doctor`` is asked."""
    parser = parser_of("doctor", "What will work on this machine: versions, devices, speed, network interfaces, disk.")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="the outputs_dir (%(default)s)")
    return parser


def doctor(arguments: argparse.Namespace) -> int:
    """Print what works here."""
    from tofro.runs.doctor import examine, show

    show(examine(arguments.outputs))
    return DONE
