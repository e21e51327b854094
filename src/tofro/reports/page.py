"""One self-contained page: verdict first, then tables, figures, every run with its folder and command.

In: a collection, its tables, verdicts and figures. Out: HTML as a string that asks nothing of the network; names are escaped by
the template, links are relative to the folder that the page is written to. The template is ``page.html.j2``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tofro.reports import formats
from tofro.reports.arms import FLOORS, SEEDLESS, arms_of, comparable, floors_of, tasks_of
from tofro.reports.cells import SHOWN_POINTS, slug
from tofro.reports.collect import Collection, RunRecord
from tofro.reports.drawing import Figure
from tofro.reports.encoder_tables import PAIR, pair_count, unigram_gain
from tofro.reports.formats import parse_metric
from tofro.reports.knob_figures import KNOBS
from tofro.reports.layout import Table, to_csv
from tofro.reports.overview import overview_table
from tofro.reports.statistics import proportion_interval
from tofro.reports.stream_tables import prefix
from tofro.reports.verdict import Verdict

PLAIN = "/:;,=?@!$*+-._~"  # what a data URI in an attribute may hold as it is


@dataclass(frozen=True)
class Fact:
    """A number worth reading first; ``anchor`` is the part of the page that it comes from."""

    label: str
    value: str
    remark: str
    anchor: str = "at-runs"


@dataclass(frozen=True)
class Section:
    """A heading of the page with its tables and figures."""

    title: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]

    @property
    def anchor(self) -> str:
        """Where links to the section lead."""
        return f"at-{slug(self.title)}"


def render_page(
    collection: Collection,
    tables: Sequence[Table],
    verdicts: Sequence[Verdict],
    figures: Sequence[Figure],
    runs: Table,
    folder: Path,
) -> str:
    """Return the page; ``folder`` is where it will lie, for its links to run folders."""
    environment = Environment(
        loader=PackageLoader("tofro.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["link"] = partial(relative_link, folder)
    environment.filters["data_uri"] = data_uri
    environment.filters["svg"] = Markup  # made by figures.py, where every text was escaped
    environment.filters["to_csv"] = to_csv
    study = collection.studies[0] if len(collection.studies) == 1 else None
    title = study.title if study else " and ".join(one.title for one in collection.studies) or "Runs"
    commands = {str(run.folder): run.command for run in collection.runs}
    places = {str(run.folder): f"run-{number}" for number, run in enumerate(collection.runs)}
    return environment.get_template("page.html.j2").render(
        title=title,
        study=study,
        verdicts=verdicts,
        facts=facts(collection.runs),
        sections=sections(collection, tables, figures),
        overview=overview_table(collection),
        runs=runs,
        commands=commands,
        places=places,
        shown_points=SHOWN_POINTS,
        unfinished=len(collection.unfinished),
        notes=collection.notes,
        run_notes=[(run, note) for run in collection.runs for note in run.notes],
        versions=_seen([run.versions for run in collection.runs]),
        machines=_seen([run.machine for run in collection.runs]),
    )


def relative_link(folder: Path, target: Path) -> str:
    """The way from ``folder`` to ``target`` as a link that no name can turn into anything but a path."""
    return "./" + quote(Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()) + "/"


def data_uri(text: str, kind: str) -> str:
    """A download that the page carries itself."""
    return f"data:{kind};charset=utf-8,{quote(text, safe=PLAIN)}"


def sections(collection: Collection, tables: Sequence[Table], figures: Sequence[Figure]) -> list[Section]:
    """Pretraining first, then two sections for each task: methods, and what they did to ``pre``."""
    found = [Section("Pretraining", *_named(tables, figures, ("pretraining", "pretraining-loss")))]
    for task in tasks_of(collection.runs):
        name = slug(task)
        about_methods = [f"{kind}-{name}" for kind in ("methods", "prompts", "differences", "scores", "cost", "curves")]
        about_methods += [f"over-{slug(knob.key)}-{name}" for knob in KNOBS]
        found.append(Section(f"Methods on {task}", *_named(tables, figures, about_methods)))
        about_pre = [f"{kind}-{name}" for kind in ("flow-back", "mechanism")]
        found.append(Section(f"What {task} did to pre", *_named(tables, figures, about_pre)))
    for stream in (stream for study in collection.studies for stream in study.streams):
        begun = prefix(stream.stage)
        names = tuple(name for name in (*(t.name for t in tables), *(f.name for f in figures)) if name.startswith(begun))
        found.append(Section(f"Stream {stream.stage}", *_named(tables, figures, names)))
    return [section for section in found if section.tables or section.figures]


def _named(
    tables: Sequence[Table], figures: Sequence[Figure], names: Sequence[str]
) -> tuple[tuple[Table, ...], tuple[Figure, ...]]:
    return (tuple(table for table in tables if table.name in names), tuple(figure for figure in figures if figure.name in names))


def facts(runs: Sequence[RunRecord]) -> list[Fact]:
    """The headline's numbers: `full` and two-way on the first task, what pretraining learnt, what it all cost."""
    spent = sum(run.cost.get("seconds", 0.0) for run in runs)
    work = sum(run.cost.get("flops", 0.0) for run in runs)
    cost = Fact("cost", f"{spent / 60:.1f} min", f"{len(runs)} runs, {formats.count(work)}FLOP")
    return [*_score_facts(runs), *_pretraining_facts(runs), cost]


def _score_facts(runs: Sequence[RunRecord]) -> list[Fact]:
    found: list[Fact] = []
    for task in tasks_of(runs)[:1]:
        alike = comparable(arms_of(runs, task))
        arms = [arm for arm in alike if arm.method not in {*FLOORS, *SEEDLESS} and arm.points(arm.score)]
        majority = floors_of(arms).get("majority")
        for arm in sorted(arms, key=lambda arm: arm.method not in ("full", "two_way"))[:2]:
            values = [value for _, value in arm.points(arm.score)]
            metric = parse_metric(arm.score or "")
            remark = f"{metric.split} {metric.title} on {task}, {len(values)} run{'s' if len(values) != 1 else ''}"
            remark += f"; majority class {formats.measured(majority[0][1], metric)}" if majority else ""
            mean = math.fsum(values) / len(values)
            found.append(Fact(arm.label, formats.measured(mean, metric), remark, f"at-Methods-on-{slug(task)}"))
    return found


def _pretraining_facts(runs: Sequence[RunRecord]) -> list[Fact]:
    found: list[Fact] = []
    for run in [run for run in runs if run.method == "pretrain"][:1]:
        if (gain := unigram_gain(run)) is not None:
            remark = "held-out MLM loss against word frequencies alone"
            found.append(Fact("below unigram", f"{formats.nats(gain)} nats", remark, "at-Pretraining"))
        share, count = run.metrics.get(PAIR), pair_count(run)
        if share is not None and count:
            interval = proportion_interval(share, int(count))
            span = formats.span(interval.low, interval.high, parse_metric(PAIR))
            found.append(Fact("pair accuracy", formats.points(share), f"95% interval {span} of {count:,.0f}", "at-Pretraining"))
    return found


def _seen(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Every key with the values that occur, in order."""
    values: dict[str, dict[str, None]] = {}
    for entry in entries:
        for key, value in entry.items():
            values.setdefault(str(key), {})[str(value)] = None
    return [(key, ", ".join(found)) for key, found in values.items()]
