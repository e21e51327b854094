"""The page in a real browser: it loads at once, asks for nothing, runs nothing that a name holds, and fits wide and narrow."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.reports.chromium import Browser, chromium, find_chromium
from tests.reports.conftest import result, write_run, write_study
from tofro.reports.report import report

QUIET = Console(quiet=True)
SHOTS = os.environ.get("TOFRO_SHOTS")  # a folder: pictures of every page, to be looked at
EVIL = "<script>window.hit=1;document.title='hit'</script>\"><img src=x onerror=window.hit=1><svg onload=window.hit=1>"

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no chromium here; Debian's package `chromium` has it")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("outputs") / "quickstart")
    report([folder], html=folder / "report.html", console=QUIET)
    return folder / "report.html"


def shoot(browser: Browser, name: str) -> None:
    if SHOTS:
        browser.shoot(Path(SHOTS) / f"{name}.png")


def test_nothing_is_asked_of_the_network_and_the_policy_is_kept(browser: Browser, page: Path, tmp_path: Path) -> None:
    control = tmp_path / "control.html"
    control.write_text("<img src='http://example.invalid/a.png'><link rel=stylesheet href='https://example.invalid/b.css'>")
    browser.open(control)
    assert sorted(browser.requests) == ["http://example.invalid/a.png", "https://example.invalid/b.css"]  # it does count
    browser.open(page)
    assert browser.requests == []
    assert browser.complaints == []


def test_no_name_is_ever_executed(browser: Browser, make_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = []
    for method, variant in (("full", ""), ("two_way", EVIL), (EVIL, "")):
        for seed in (0, 1):
            metrics = {"test/accuracy_ft": 0.5, "validation/accuracy_ft": 0.5, "test/accuracy_majority": 0.3}
            metrics |= {f"test/probe_{EVIL}_start": 0.4, f"test/probe_{EVIL}_pre": 0.5 + 0.01 * seed}
            more = {"command": EVIL, "notes": [EVIL], "versions": {EVIL: EVIL}, "machine": {EVIL: EVIL}, "task": EVIL}
            name = f"{len(runs)}-<script>window.hit=1<!--"
            content = result(method, seed, variant=variant, metrics=metrics, cost={"flops": 1e9 + seed}, **more)
            runs.append(write_run(tmp_path / "runs", content | {"folder": name.replace("/", "")}))
    plan = {"title": EVIL, "claim": EVIL, "command": EVIL, "expect": {EVIL: EVIL}, "runs": [run.name for run in runs]}
    (tmp_path / "runs" / "study.json").write_text(json.dumps(plan))
    report([tmp_path / "runs"], html=tmp_path / "page.html", console=QUIET)
    control = tmp_path / "control.html"
    control.write_text(f"<title>control</title>{EVIL}")
    browser.call("Page.setBypassCSP", enabled=True)  # escaping alone must do
    try:
        browser.open(control)
        assert browser.evaluate("window.hit") == 1
        browser.open(tmp_path / "page.html")
        assert browser.evaluate("window.hit") is None
        assert browser.evaluate("document.scripts.length + document.images.length") == 0
        assert browser.evaluate("document.title").startswith("<script>")
        assert browser.requests == []
    finally:
        browser.call("Page.setBypassCSP", enabled=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_wide_and_narrow_light_and_dark(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.look(width, scheme)
    browser.open(page)
    shoot(browser, f"quickstart-{width}-{scheme}")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll within themselves
    paper, ink = (browser.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert contrast(paper, ink) >= 7
    assert (luminance(paper) > 0.5) == (scheme == "light")
    fills = browser.evaluate("[...new Set([...document.querySelectorAll('figure svg text')].map(t => getComputedStyle(t).fill))]")
    assert fills
    assert all(contrast(paper, fill) >= 7 for fill in fills)  # the figures' text follows
    small = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg text')].map(text => text.getBoundingClientRect().height))"
    )
    assert small >= 9


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``rgb(r, g, b)``."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
def test_a_hundred_runs_of_a_thousand_points(browser: Browser, tmp_path: Path) -> None:
    folder = write_large_study(tmp_path / "large")
    started = time.perf_counter()
    report([folder], html=folder / "report.html", console=QUIET)
    built, size = time.perf_counter() - started, (folder / "report.html").stat().st_size
    browser.look(1280)
    opened = browser.open(folder / "report.html")
    shoot(browser, "large-1280-light")
    print(f"\n100 runs x 1,000 points: built in {built:.1f} s, {size / 1e6:.2f} MB, opened in {opened:.2f} s", end=" ")
    print(f"{len(browser.requests)} requests")
    assert browser.requests == []
    assert size <= 3e6
    assert built <= 30  # 10 s alone on two cores; a machine at work takes longer
    assert opened <= 6


def write_large_study(folder: Path, points: int = 1000) -> Path:
    """A hundred runs: one pretraining, and nine arms of eleven seeds, each with ``points`` rows that hold losses and a score."""
    draw = random.Random(3)
    folder.mkdir(parents=True)
    metrics = {"validation/mlm_loss_pre": 5.0, "validation/unigram_nats_pre": 6.4}
    first = result("pretrain", 0, task=None, corpus="pydoc", score="validation/mlm_loss_pre", metrics=metrics, lineage={})
    runs = [write_run(folder, first, rows(draw, points, "validation/mlm_loss_pre"))]
    probes = ("mlm_loss", "probe_pydoc_kind", "knn_pydoc_kind", "probe_sst2", "probe_trec", "probe_ner", "knn_sst2", "knn_trec")
    for arm, (method, config) in enumerate(
        [
            ("full", {}),
            ("ema", {}),
            ("l2_sp", {}),
            *(("two_way", {"alignment.weight": weight}) for weight in (0, 0.01, 0.03, 0.3, 1, 3)),
        ]
    ):
        for seed in range(11):
            score = 0.7 + 0.01 * arm + draw.gauss(0, 0.01)
            metrics = {"test/accuracy_ft": score, "validation/accuracy_ft": score, "test/accuracy_majority": 0.25}
            for name in probes:
                split = "validation" if name == "mlm_loss" else "test"
                metrics |= {
                    f"{split}/{name}_start": 0.6,
                    f"{split}/{name}_pre": 0.6 + (method == "two_way") * draw.gauss(0.02, 0.01),
                }
            command = f"tofro run method={method} task=pydoc_kind seed={seed} " + " ".join(
                f"key_{n}.of_a_group=value" for n in range(14)
            )
            cost = {"seconds": 9.0, "train_seconds": 8.0, "flops": 1e12 * (1 + (method == "two_way")), "tokens": 1e5}
            content = result(method, seed, metrics=metrics, cost=cost, config=config, command=command, id=f"{arm:04d}{seed:04d}")
            runs.append(write_run(folder, content, rows(draw, points, "validation/accuracy_ft")))
    (folder / "study.json").write_text(json.dumps({"title": "Large", "runs": [run.name for run in runs]}))
    return folder


def rows(draw: random.Random, points: int, score: str) -> list[dict[str, float]]:
    """As many rows as a run of so many steps leaves, each evaluated."""
    names = ("train/task_loss", "train/alignment_loss", "train/loss", "train/gradient_norm_ft", "train/learning_rate")
    return [
        {"step": step, "seconds": step / 10} | {name: draw.random() for name in names} | {score: 0.5 + draw.random() / 4}
        for step in range(1, points + 1)
    ]
