"""Measuring a model folder: one command for every number about it, and nothing trained.

In: ``init_from``, a run's folder or a model folder, tofro's or published. Out: :class:`~tofro.runs.outcome.Outcome`, with the
same numbers under the same names as a run that ends with this model. Leaves out what the numbers are (measuring.py, using.py,
comparing.py).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tofro.measures.cost import Meter, peak_memory_mb
from tofro.modules.settings import MethodSettings
from tofro.runs.comparing import between
from tofro.runs.context import Context, Start, open_start
from tofro.runs.measuring import measure
from tofro.runs.outcome import Outcome, few_shot_rows, floor, lineage_of
from tofro.runs.using import probe_tasks


def measure_folder(settings: MethodSettings, context: Context) -> Outcome:
    """Measure the models of ``init_from``: language where they have the heads, shape, use on all tasks, and likeness of two.

    What was kept of the same weights in the cache is not computed again. The parameters stay what they are, bit for bit.
    """
    if context.config.init_from is None:
        raise ValueError("init_from: method=measure needs a model to measure; name a finished run's folder or a model folder")
    tasks, starts = probe_tasks(context), find_models(context)
    metrics: dict[str, float] = {}
    with Meter() as meter:
        for name, start in starts.items():
            metrics |= measure(context, start.model, name, start.lineage)
        metrics |= between(context, {name: start.model for name, start in starts.items()})
    notes = [f"{name} has no {head} head; what asks it is left out" for name, start in starts.items() for head in start.fresh]
    return Outcome(
        score=f"{settings.split}/probe_{context.task.name}_{next(iter(starts))}",
        metrics=metrics | floor(context),
        cost={"tokens": meter.tokens, "flops": meter.flops, "peak_memory_mb": peak_memory_mb()},
        lineage=lineage_of(context),
        data={task.name: task.fingerprint for task in tasks} | few_shot_rows(context),
        notes=(*context.task.notes, *notes),
    )


def find_models(context: Context) -> dict[str, Start]:
    """Return the models to measure, by name.

    A run's folder holds ``pre``, ``ft`` or both; a folder called ``ft`` holds that; any other model is ``pre``. With
    ``init_from_ft`` that one is the ``ft``, so that two folders are compared. Heads that a folder lacks are left out.
    """
    path = Path(context.config.init_from).expanduser()
    found = {name: (path / "models" / name).is_dir() for name in ("pre", "ft")}
    alone = "ft" if (found["ft"] and not found["pre"]) or path.name == "ft" else "pre"
    starts = {alone: context.start}
    if context.config.init_from_ft:
        starts = {"pre": context.start, "ft": context.start_ft}
    elif all(found.values()):
        starts["ft"] = open_start(str(path / "models" / "ft"), context.cache)
    return {name: without_fresh_heads(start) for name, start in starts.items()}


def without_fresh_heads(start: Start) -> Start:
    """Return a starting point without the heads that hold random weights: they know nothing that could be measured."""
    for head in start.fresh:
        if head in start.model.heads:
            del start.model.heads[head]
    return replace(start, fresh=tuple(head for head in start.fresh if head in ("mlm", "pair")))
