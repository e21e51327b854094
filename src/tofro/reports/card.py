"""``tofro export``: a run's model as a folder for others, with a model card.

In: a finished run's folder. Out: a copy of its ``models/pre`` or ``models/ft`` with a README.md that says what the model is, from
which data, how it was made and how good it is, with an interval where runs of other seeds stand beside it. From JSON files alone;
no torch. Paths of the machine and secrets stay out (public.py). Left out: the licence, which is for whoever publishes it to say.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tofro.reports import formats
from tofro.reports.formats import parse_metric
from tofro.reports.public import public_command, public_text
from tofro.reports.statistics import SMALLEST_PAIRS, paired_t_interval
from tofro.runs.folder import read_result

MODELS = ("ft", "pre")
CARD = "README.md"
SHOWN_LABELS = 20
PIPELINES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
}
METHODS = {
    "pretrain": "pretrained on a corpus without labels",
    "full": "fine-tuned on a task, all of its parameters",
    "partial": "fine-tuned on a task, in part",
    "lora": "fine-tuned on a task by low-rank differences, which are merged",
    "prompt_tune": "fine-tuned on a task through a prompt, which its head for masked words answers",
    "two_way": "trained two ways: a task's loss and an alignment of a pretrained and a fine-tuned encoder, both of which learn",
}
COSTS = {
    "seconds": ("seconds in all", formats.count),
    "train_seconds": ("seconds of training", formats.count),
    "steps": ("optimizer steps", formats.count),
    "tokens": ("tokens", formats.count),
    "flops": ("FLOPs", formats.count),
    "peak_memory_mb": ("peak memory, MB", formats.count),
}


def export(run: Path, out: Path, model: str | None = None) -> str:
    """Copy a model of ``run`` to ``out`` and write its card; return which it was. ValueError where that can't be.

    The folder appears whole or not at all. ``model`` is ``ft`` or ``pre``; None takes ft where there is one.
    """
    result = _result_of(run)
    name = _choose(run, model)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there and not empty; choose another folder")
    text = card(run, result, name)
    out = Path(os.path.abspath(out))
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run / "models" / name, temporary, ignore=lambda folder, names: [each for each in names if each[0] == "."])
        (temporary / CARD).write_text(text, encoding="utf-8")
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise ValueError(f"{out}: can't be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return name


def card(run: Path, result: Mapping[str, Any], model: str) -> str:
    """Return the model card of a run's model as Markdown."""
    folder = run / "models" / model
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sections = {
        "": _opening(result, model, config, folder),
        "Use": _use(config),
        "Data": _data(result),
        "Results": _results(run, result, model),
        "How it was made": _making(run, result),
        "Cost": _cost(result),
        "Notes of the run": [f"- {_cell(note)}" for note in result.get("notes", ())],
        "Licence": [
            "Not stated yet. Whoever publishes this model says it here and in the line `license:` at the top; terms of the data "
            "and of the model that it started from bear on it."
        ],
    }
    parts = [*_front(result, config)]
    for title, lines in sections.items():
        parts += ([f"## {title}", ""] if title else []) + [*lines, ""] if lines else []
    return "\n".join(parts)


def _result_of(run: Path) -> dict[str, Any]:
    if not run.is_dir():
        raise ValueError(f"{run}: no such folder; give a finished run's folder")
    result = read_result(run)
    if result is None:
        raise ValueError(f"{run}: holds no result.json, so it is no finished run; finish it with `tofro run`, or give its folder")
    return result


def _choose(run: Path, model: str | None) -> str:
    there = [name for name in MODELS if (run / "models" / name / "config.json").is_file()]
    if not there:
        raise ValueError(f"{run}: this run keeps no model (no models/ft and no models/pre); its method trains none")
    if model is not None and model not in there:
        raise ValueError(f"--model {model}: {run} has no models/{model}; it has models/{', models/'.join(there)}")
    return model or there[0]


def _front(result: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    tags = ["tofro", str(result["method"]), str(config.get("model_type", "encoder"))]
    lines = ["---", "# license: to be filled in by whoever publishes this model", "library_name: transformers"]
    lines += [f"pipeline_tag: {_pipeline(config)}", "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---", ""]
    return lines


def _opening(result: Mapping[str, Any], model: str, config: Mapping[str, Any], folder: Path) -> list[str]:
    on = result.get("task") or result.get("corpus") or "its data"
    how = METHODS.get(str(result["method"]), f"made by the method `{result['method']}`")
    variant = f", control `{public_text(result['variant'])}`" if result.get("variant") else ""
    lines = [
        f"# {_cell(result['method'])} on {_cell(on)}: {model}",
        "",
        f"A {config.get('model_type', 'text')} encoder, {how}{variant}, with tofro. Of the run's two encoders this is `{model}`: "
        + ("the one that learnt the task." if model == "ft" else "the pretrained one."),
        "",
        f"- class: `{', '.join(config.get('architectures') or ['unknown'])}`, {formats.count(_parameters(folder))} parameters",
    ]
    sizes = {
        name: config[name]
        for name in ("num_hidden_layers", "hidden_size", "max_position_embeddings", "vocab_size")
        if name in config
    }
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in sizes.items()]
    labels = list((config.get("id2label") or {}).values()) if "Classification" in str(config.get("architectures")) else []
    if labels and config.get("problem_type") != "regression":
        more = f", and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
        lines.append(f"- labels: {', '.join(_cell(label) for label in labels[:SHOWN_LABELS])}{more}")
    return lines


def _use(config: Mapping[str, Any]) -> list[str]:
    auto = {
        "text-classification": "SequenceClassification",
        "token-classification": "TokenClassification",
        "fill-mask": "MaskedLM",
    }
    kind = f"AutoModel{'For' if _pipeline(config) in auto else ''}{auto.get(_pipeline(config), '')}"
    return [
        "```python",
        f"from transformers import AutoTokenizer, {kind}",
        "",
        f'tokenizer, model = AutoTokenizer.from_pretrained("FOLDER"), {kind}.from_pretrained("FOLDER")',
        "```",
        "",
        'With tofro: `tofro.load("FOLDER").encode([...])` in Python'
        + (", `tofro predict FOLDER texts.txt` on the command line." if _pipeline(config).endswith("classification") else "."),
    ]


def _data(result: Mapping[str, Any]) -> list[str]:
    rows = [(what, result.get(what), print_) for what, print_ in (result.get("data") or {}).items()]
    return _table(("", "name", "fingerprint (sha256 of content and reading)"), rows)


def _results(run: Path, result: Mapping[str, Any], model: str) -> list[str]:
    runs = [result, *_siblings(run, result)]
    rows = [_metric_row(name, runs) for name in result["metrics"] if parse_metric(name).encoder in (model, "majority")]
    seeds = ", ".join(str(each["seed"]) for each in runs)
    if len(runs) == 1:
        head: tuple[str, ...] = ("metric", "this model")
        said = f"One run (seed {seeds}), so there is no interval: how much luck is in these numbers is not known."
        rows = [row[:2] for row in rows]
    else:
        enough = len(runs) >= SMALLEST_PAIRS
        head = ("metric", "this model", "mean", "95% interval of the mean (t)" if enough else "lowest to highest")
        said = f"{len(runs)} runs differ in their seed alone (seeds {seeds}); this model is that of seed {result['seed']}."
        said += "" if enough else f" They are too few for an interval, which needs {SMALLEST_PAIRS}."
    return [
        said,
        "",
        *_table(head, rows),
        "",
        "Shares are in points, losses in nats; `majority` is what the commonest answer scores.",
    ]


def _metric_row(name: str, runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a metric of the first of ``runs``, with mean and interval, or range, over all that have it."""
    metric = parse_metric(name)
    values = [float(each["metrics"][name]) for each in runs if each["metrics"].get(name) is not None]
    if not values:
        return name, formats.MISSING, formats.MISSING, formats.MISSING
    low, high = min(values), max(values)
    if len(runs) >= SMALLEST_PAIRS and len(values) >= SMALLEST_PAIRS:
        interval = paired_t_interval(values)
        low, high = interval.low, interval.high
    mean = formats.measured(math.fsum(values) / len(values), metric)
    return name, formats.measured(runs[0]["metrics"][name], metric), mean, formats.span(low, high, metric)


def _siblings(run: Path, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results of the finished runs beside ``run`` whose config differs in the seed alone, by seed."""
    found = []
    for folder in sorted(run.resolve().parent.iterdir()):
        if folder.is_dir() and folder != run.resolve() and (folder / "result.json").is_file():
            try:
                other = read_result(folder)
            except ValueError:  # a broken neighbour is no business of this model
                continue
            if (
                other
                and _but_seed(other.get("config")) == _but_seed(result.get("config"))
                and other.get("seed") != result["seed"]
            ):
                found.append(other)
    return sorted(found, key=lambda each: each["seed"])


def _but_seed(config: Any) -> dict[str, Any] | None:
    return {key: value for key, value in config.items() if key != "seed"} if isinstance(config, dict) else None


def _making(run: Path, result: Mapping[str, Any]) -> list[str]:
    started = [f"`{key}`: {_cell(value)}" for key, value in (result.get("lineage") or {}).items() if value]
    keys = {key: value for key, value in (result.get("config") or {}).items() if key not in ("version", "seed", "init_from")}
    rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in keys.items()]
    return [
        "```bash",
        public_command(str(result.get("command") or "tofro run")),
        "```",
        "",
        f"- run `{result['id']}`, seed {result['seed']}"
        + (f"; started from {', '.join(started)}" if started else "; from scratch"),
        f"- tofro at commit {_cell(_commit(run))}; "
        + ", ".join(f"{name} {version}" for name, version in (result.get("versions") or {}).items()),
        "",
        *_table(("key that differs from its default", "value"), rows),
    ]


def _cost(result: Mapping[str, Any]) -> list[str]:
    cost, machine = result.get("cost") or {}, result.get("machine") or {}
    rows = [(words, show(cost[key])) for key, (words, show) in COSTS.items() if cost.get(key) is not None]
    where = ", ".join(f"{key} {machine[key]}" for key in ("cpu", "cores", "system") if machine.get(key))
    return [*_table(("", "of this run"), rows), "", f"On: {_cell(where)}."]


def _commit(run: Path) -> str:
    try:
        return str(json.loads((run / "environment.json").read_text(encoding="utf-8")).get("git") or "unknown")
    except (OSError, ValueError):
        return "unknown"


def _pipeline(config: Mapping[str, Any]) -> str:
    architecture = next(iter(config.get("architectures") or []), "")
    return next((tag for ending, tag in PIPELINES.items() if architecture.endswith(ending)), "feature-extraction")


def _parameters(folder: Path) -> int:
    """Count the numbers in a folder's weights, from the headers of its safetensors files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    rows = list(rows)
    if not rows:
        return []
    lines = [f"| {' | '.join(head)} |", "|" + ":--|" * len(head)]
    return lines + [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]


def _cell(value: Any) -> str:
    """Return a value as text that is safe in a Markdown table and names no place of this machine."""
    text = " ".join(public_text("" if value is None else str(value)).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
