"""One table of methods and tasks: intervals where runs give them, bold where that of a difference excludes 0, and only there."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tofro.reports.arms import arms_of
from tofro.reports.collect import collect
from tofro.reports.formats import MISSING
from tofro.reports.layout import Table, to_latex
from tofro.reports.overview import overview_table
from tofro.reports.report import report
from tofro.reports.statistics import paired_t_interval
from tofro.reports.tables import all_tables, difference_table, method_table

Make = Callable[..., Path]
GAINS = {"full": 0.0, "two_way": 0.03, "lora": 0.0}


@pytest.fixture
def folder(make_run: Make, tmp_path: Path) -> Path:
    """Two tasks; eight seeds on one of them, two on the other; two_way gains, lora does not."""
    draw = random.Random(1)
    for task, seeds in (("kind", 8), ("other", 2)):
        for seed in range(seeds):
            luck = draw.gauss(0, 0.01)
            for method, gain in GAINS.items():
                score = 0.7 + luck + gain + 0.004 * (-1) ** (seed + (method == "full"))
                make_run(method, seed, task=task, metrics={"test/accuracy_ft": score, "test/accuracy_majority": 0.25})
    make_run("tfidf", 0, task="kind", score="test/accuracy_tfidf", metrics={"test/accuracy_tfidf": 0.6})
    probe = {"test/probe_kind_pre": 0.9, "test/probe_kind_start": 0.4, "test/accuracy_majority": 0.25}
    make_run("continued_mlm", 0, task="kind", score="test/probe_kind_pre", metrics=probe)
    return tmp_path / "runs"


def cells(table: Table | None) -> dict[str, list[str]]:
    assert table is not None
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_scores_and_differences_with_their_intervals(folder: Path) -> None:
    collection = collect([folder])
    table = overview_table(collection)
    assert table is not None
    assert [column.title for column in table.columns] == ["method", "kind", "− full", "other", "− full"]
    rows = cells(table)
    assert list(rows) == ["full", "lora", "two_way", "TF-IDF + logistic", "majority class"]
    scores = [run.metrics["test/accuracy_ft"] for run in collection.runs if (run.method, run.task) == ("two_way", "kind")]
    interval = paired_t_interval(scores)
    assert rows["two_way"][0].endswith(f"({100 * interval.low:.1f} to {100 * interval.high:.1f})")
    assert rows["full"][1] == MISSING
    assert "(" in rows["two_way"][1]
    assert "(" not in rows["two_way"][2] + rows["two_way"][3]  # two seeds
    assert rows["TF-IDF + logistic"][0] == "60.0"
    assert rows["TF-IDF + logistic"][2:] == [MISSING, MISSING]
    assert rows["majority class"] == ["25.0", MISSING, "25.0", MISSING]


def test_bold_is_an_interval_that_excludes_nothing_happened_and_nothing_else(folder: Path) -> None:
    table = overview_table(collect([folder]))
    assert table is not None
    bold = [(row[0].text, place) for row in table.rows for place, cell in enumerate(row) if cell.bold]
    assert bold == [("two_way", 2)]
    assert to_latex(table).count(r"\textbf") == 1


def test_a_probe_is_not_subtracted_from_an_accuracy(folder: Path) -> None:
    runs = collect([folder]).runs
    arms = arms_of(runs, "kind")
    assert "continued_mlm" not in cells(overview_table(collect([folder])))
    assert "continued_mlm" not in cells(difference_table(arms))
    table = method_table(arms)
    assert table is not None
    row = next(index for index, each in enumerate(table.rows) if each[0].text.startswith("continued_mlm"))
    assert table.rows[row][0].text == "continued_mlm, probe kind of pre"
    assert row in table.faint


def test_it_opens_the_report_of_several_tasks_and_the_page_of_any(folder: Path, study: Path) -> None:
    assert all_tables(collect([folder]))[0].name == "overview"
    assert all_tables(collect([study]))[0].name == "pretraining"
    report([study], html=study / "report.html", console=Console(quiet=True))
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.index("Flow-back") < page.index('id="at-overview"') < page.index('id="at-Methods-on-pydoc-kind"')


def test_a_paper_gets_its_two_files_and_figures_three_each(folder: Path, tmp_path: Path) -> None:
    quiet = Console(quiet=True)
    report([folder], paper=tmp_path / "paper", figures=tmp_path / "figures", console=quiet)
    assert sorted(path.name for path in (tmp_path / "paper").iterdir()) == ["figure.csv", "figure.pdf", "table.tex"]
    table = (tmp_path / "paper" / "table.tex").read_text(encoding="utf-8")
    assert r"\toprule" in table
    assert table.isascii()
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert {"scores-kind.svg", "scores-kind.pdf", "scores-kind.csv"} <= set(drawn)
    assert len(drawn) % 3 == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--paper names a folder"):
        report([folder], paper=tmp_path / "file", console=quiet)


def test_a_paper_needs_a_score(make_run: Make, tmp_path: Path) -> None:
    make_run("pretrain", 0, task=None, corpus="pydoc", score="validation/mlm_loss_pre")
    with pytest.raises(ValueError, match="no run here has a score"):
        report([tmp_path / "runs"], paper=tmp_path / "paper", console=Console(quiet=True))
