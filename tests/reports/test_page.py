"""The page: self-contained, the same bytes for the same runs, harmless whatever a run is called; and the report around it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from rich.console import Console

from tofro.reports.collect import Curve, collect
from tofro.reports.drawing import TEXT
from tofro.reports.figures import CURVE_POINTS, all_figures, mean_curve, thin
from tofro.reports.looks import looks_of
from tofro.reports.report import report

QUIET = Console(quiet=True)


class Reader(HTMLParser):
    """Tags, attributes and ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def drawn(study_writer: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic study with its page, for tests that change nothing."""
    folder = study_writer(tmp_path_factory.mktemp("outputs") / "quickstart")
    report([folder], html=folder / "report.html", console=QUIET)
    return folder


@pytest.fixture
def page(drawn: Path) -> str:
    """The synthetic study's page."""
    return (drawn / "report.html").read_text(encoding="utf-8")


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    for tag, attributes in Reader(page).tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or ""
            assert re.match(r"^(\./|\.\./|data:|#|$)", value), (tag, name, value)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_links_lead_to_run_folders(page: str, drawn: Path) -> None:
    links = [link for tag, attributes in Reader(page).tags if tag == "a" and (link := attributes["href"] or "").startswith("./")]
    assert len(links) > 30
    assert all((drawn / unquote(link) / "result.json").exists() for link in links)


def test_no_id_occurs_twice_and_every_reference_is_met(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Reader(page).tags if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'xlink:href="#([^"]+)"', page)) <= set(ids)


def test_the_same_runs_make_the_same_bytes(page: str, study: Path) -> None:
    report([study], html=study / "report.html", console=QUIET)
    assert (study / "report.html").read_text(encoding="utf-8") == page
    assert "currentColor" in page
    assert TEXT not in page[page.index("</style>") :]  # but for the page's own colours
    assert not re.search(r"20\d\d-\d\d-\d\d", page)


def test_script_tags_in_names_are_text(make_run: Callable[..., Path], tmp_path: Path) -> None:
    evil = "<script>alert('$x$')</script>\"><img src=x onerror=alert(1)>"
    for seed in (0, 1):
        make_run(
            "full",
            seed,
            variant=evil,
            command=evil,
            notes=[evil],
            versions={evil: evil},
            task="t",
            metrics={"test/accuracy_ft": 0.5, "validation/accuracy_ft": 0.5},
        )
    make_run(
        "two_way",
        0,
        variant=evil,
        task="t",
        metrics={"test/accuracy_ft": 0.5, "test/probe_<script>_start": 0.4, "test/probe_<script>_pre": 0.5},
    )
    plan = {
        "title": evil,
        "claim": evil,
        "command": evil,
        "expect": {evil: evil},
        "runs": [path.name for path in (tmp_path / "runs").iterdir()],
    }
    (tmp_path / "runs" / "study.json").write_text(json.dumps(plan))
    report([tmp_path / "runs"], html=tmp_path / "page.html", console=QUIET)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not {"script", "img"} & {tag for tag, _ in Reader(page).tags}
    assert all(not name.startswith("on") for _, attributes in Reader(page).tags for name in attributes)
    assert "&lt;script&gt;" in page
    drawings = [figure.svg for figure in all_figures(collect([tmp_path / "runs"]))]
    assert any("alert('$x$')" in svg for svg in drawings)  # no formula either


def test_every_output_is_written_and_the_terminal_shows_the_verdict(study: Path, tmp_path: Path) -> None:
    screen = io.StringIO()
    made = report(
        [study],
        latex=tmp_path / "t.tex",
        csv=tmp_path / "csv",
        markdown=tmp_path / "t.md",
        console=Console(file=screen, width=100),
    )
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {
        "pretraining.csv",
        "methods-pydoc-kind.csv",
        "prompts-pydoc-kind.csv",
        "differences-pydoc-kind.csv",
        "flow-back-pydoc-kind.csv",
        "runs.csv",
    }
    assert (tmp_path / "t.tex").read_text().count(r"\begin{tabular}") == 5
    assert (tmp_path / "t.md").read_text() == made.markdown
    shown = screen.getvalue()
    assert "no verdict" in shown
    assert "3 pairs < 8" in shown
    assert "TF-IDF" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_csv_is_a_folder(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("")
    with pytest.raises(ValueError, match="folder"):
        report([study], csv=tmp_path / "file.csv", console=QUIET)


def test_unfinished_runs_are_on_page_and_terminal(study: Path) -> None:
    gone = next(path for path in study.iterdir() if path.name.startswith("full"))
    (gone / "result.json").unlink()
    screen = io.StringIO()
    report([study], html=study / "report.html", console=Console(file=screen, width=200))
    assert f"unfinished: {gone}" in screen.getvalue()
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "1 unfinished run, listed at the end" in page
    assert gone.name in page


def test_the_terminal_report_imports_neither_torch_nor_matplotlib(study: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rich.console import Console; from tofro.reports.report import report;"
        f"report([Path({str(study)!r})], console=Console(quiet=True));"
        "sys.exit(' '.join({'torch', 'matplotlib', 'lightning', 'scipy.stats'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == ""


def test_one_look_per_method_and_no_two_alike(study: Path, make_run: Callable[..., Path], tmp_path: Path) -> None:
    for method in ("full", "two_way", "ema", "lora"):
        make_run(method, 0, task="sst2", variant="λ 0.5" if method == "two_way" else "")
    looks = looks_of([*collect([study]).runs, *collect([tmp_path / "runs"]).runs])
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks) == 7
    assert looks["full"] == looks_of(collect([tmp_path / "runs"]).runs)["full"]


def test_figures_have_their_data_beside_them(study: Path) -> None:
    figures = {figure.name: figure for figure in all_figures(collect([study]))}
    assert list(figures) == [
        "pretraining-loss",
        "scores-pydoc-kind",
        "cost-pydoc-kind",
        "curves-pydoc-kind",
        "flow-back-pydoc-kind",
    ]
    assert len(figures["curves-pydoc-kind"].csv.splitlines()) == 1 + 9 * 10
    assert all(figure.svg.startswith("<svg ") and "<style" not in figure.svg for figure in figures.values())


def test_thinning_keeps_means_and_mean_curves_skip_ended_seeds() -> None:
    steps = np.arange(1600.0)
    curve = thin(Curve(steps, steps, 2 * steps))
    assert curve.steps.size == CURVE_POINTS
    assert curve.values.mean() == pytest.approx(2 * steps.mean())
    short, long = (Curve(np.array(s), np.array(s), np.array(v)) for s, v in (([1.0], [4.0]), ([1.0, 2.0], [6.0, 8.0])))
    at, mean = mean_curve([short, long])
    assert at.tolist() == [1, 2]
    assert mean.tolist() == [5, 8]
