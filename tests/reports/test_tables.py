"""Tables hold what a hand computes from the runs, say when they judge nothing, and escape names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tofro.reports import formats
from tofro.reports.arms import Arm, arms_of, differences
from tofro.reports.collect import collect
from tofro.reports.encoder_tables import flow_table, mechanism_table, pretraining_table
from tofro.reports.formats import MISSING, Metric, parse_metric
from tofro.reports.layout import Cell, Column, Table, to_csv, to_latex, to_markdown, to_rich
from tofro.reports.tables import all_tables, difference_table, method_table, run_table

Make = Callable[..., Path]


def text(table: Table | None) -> dict[str, list[str]]:
    """Rows by first cell."""
    assert table is not None
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


@pytest.fixture
def arms(make_run: Make, tmp_path: Path) -> list[Arm]:
    """Two seeded arms, written in different orders of their seeds, and three templates."""
    for seed, score in ((2, 0.83), (0, 0.80), (1, 0.84)):
        make_run(
            "full",
            seed,
            metrics={"test/accuracy_ft": score, "validation/accuracy_ft": score + 0.01, "test/accuracy_majority": 0.5},
            cost={"seconds": 10.0 + seed, "train_seconds": 8.0, "flops": 2e9, "tokens": 1000, "peak_memory_mb": 300},
        )
    for seed, score in ((0, 0.82), (1, 0.83), (2, 0.85)):
        make_run("two_way", seed, metrics={"test/accuracy_ft": score}, cost={"train_seconds": 12.0, "flops": 4e9})
    for template, score in enumerate((0.5, 0.6, 0.7)):
        make_run(
            "prompt", 0, variant=f"cloze, template {template}", score="test/accuracy_pre", metrics={"test/accuracy_pre": score}
        )
    return arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind")


def test_method_table_is_the_hand_computed_one(arms: list[Arm]) -> None:
    rows = text(method_table(arms))
    assert rows["full"][0] == "82.3"
    assert sorted(rows["full"][1].split()) == ["80.0", "83.0", "84.0"]
    assert rows["full"][2:] == ["83.3", "3", "11", "1.00×", "1.00×", "1 k", "300"]
    assert rows["two_way"][0] == "83.3"
    assert rows["two_way"][5:7] == ["1.50×", "2.00×"]
    assert rows["two_way"][2] == MISSING
    assert rows["two_way"][4] == MISSING
    assert rows["prompt, cloze, 3 templates"][0] == "60.0"
    assert rows["majority class"][:2] == ["50.0", "50.0"]


def test_template_spread_is_no_seed_spread(arms: list[Arm]) -> None:
    table = method_table(arms)
    assert table is not None
    assert any("50.0 to 70.0" in note and "no seeds" in note for note in table.notes)
    assert all("prompt" not in row for row in text(difference_table(arms)))


def test_differences_pair_by_seed_and_not_by_order(arms: list[Arm]) -> None:
    full, two_way = (next(arm for arm in arms if arm.method == name) for name in ("full", "two_way"))
    by_seed = {run.seed: round(value, 6) for run, value in differences(two_way, full)}
    assert by_seed == {0: 0.02, 1: -0.01, 2: 0.02}
    table = difference_table(arms_of([*two_way.runs, *full.runs], "pydoc_kind"))
    row = text(table)["two_way"]
    assert row[0] == "+1.0"
    assert row[2:] == ["3", MISSING, MISSING]
    assert table is not None
    assert "No interval and no verdict" in table.notes[0]
    assert any("sd 1.7" in note and "26 pairs" in note for note in table.notes)


def test_from_eight_pairs_on_there_are_interval_and_test(make_run: Make, tmp_path: Path) -> None:
    for seed in range(8):
        make_run("full", seed, metrics={"test/accuracy_ft": 0.8})
        make_run("two_way", seed, metrics={"test/accuracy_ft": 0.81 + 0.001 * seed})
    table = difference_table(arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind"))
    row = text(table)["two_way"]
    assert row[2:] == ["8", "+1.1 to +1.6", "0.004"]
    assert table is not None
    assert table.rows[0][1].bold


def test_several_runs_of_one_seed_are_not_paired(make_run: Make, tmp_path: Path) -> None:
    make_run("full", 0, metrics={"test/accuracy_ft": 0.8})
    make_run("two_way", 0, metrics={"test/accuracy_ft": 0.8})
    make_run("two_way", 0, metrics={"test/accuracy_ft": 0.9}, id="ffffffff")
    assert difference_table(arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind")) is None


def test_pairs_respect_the_starting_point(make_run: Make, tmp_path: Path) -> None:
    for start, base in (("aa", 0.7), ("bb", 0.8)):
        for seed in (0, 1):
            for method, gain in (("full", 0.0), ("two_way", 0.01)):
                make_run(
                    method, seed, metrics={"test/accuracy_ft": base + gain}, lineage={"init_from": start}, id=f"{start}000000"
                )
    full, two_way = arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind")
    assert [round(value, 6) for _, value in differences(two_way, full)] == [0.01] * 4


def test_flow_back_before_after_and_untouched(study: Path) -> None:
    arms = arms_of(collect([study]).runs, "pydoc_kind")
    table = flow_table(arms)
    rows = [[cell.text for cell in row] for row in (table.rows if table else ())]
    assert ["full", "every measure", MISSING, MISSING, "0", "untouched", MISSING] in rows
    assert next(row for row in rows if row[0] == "full")[4] == "0"
    two_way = next(arm for arm in arms if arm.method == "two_way")
    mean = sum(run.metrics["test/probe_pydoc_kind_pre"] - run.metrics["test/probe_pydoc_kind_start"] for run in two_way.runs) / 3
    row = next(row for row in rows if row[:2] == ["two_way", "probe pydoc_kind (trained)"])
    assert row[2] == "71.2"
    assert row[4] == f"{100 * mean:+.1f}"
    assert [row[1] for row in rows if row[0] == "two_way"] == [
        "held-out MLM loss",
        "pair accuracy",
        "probe pydoc_kind (trained)",
        "probe pydoc_match",
        "probe pydoc_package",
        "mean of the other tasks' probes",
    ]


def test_flow_back_ends_with_the_mean_over_other_tasks(make_run: Make, tmp_path: Path) -> None:
    for seed, gain in ((0, 0.02), (1, 0.06)):
        probes = {"pydoc_kind": (0.7, 0.9), "sst2": (0.6, 0.6 + gain), "trec": (0.4, 0.3)}
        sides = {f"test/probe_{name}_{side}": each[side == "pre"] for name, each in probes.items() for side in ("start", "pre")}
        make_run("ema", seed, metrics={"test/accuracy_ft": 0.8} | sides)
    table = flow_table(arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind"))
    assert table is not None
    last = [cell.text for cell in table.rows[-1]]
    assert last == ["ema", "mean of the other tasks' probes", "50.0", "47.0", "−3.0", "−4.0  −2.0", MISSING]


def test_cost_is_told_as_a_share_of_pretraining(study: Path) -> None:
    table = next(table for table in all_tables(collect([study])) if table.name == "methods-pydoc-kind")
    assert not any("pretraining" in note for note in table.notes)  # the runs' starts are not this pretraining run
    (path,) = study.glob("pretrain-*/result.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"id": "0a1b2c3d"}))
    table = next(table for table in all_tables(collect([study])) if table.name == "methods-pydoc-kind")
    assert "full took 0.12× the time and 0.24× the FLOPs of pretraining from scratch." in table.notes


def test_where_less_is_better_the_test_asks_for_less(make_run: Make, tmp_path: Path) -> None:
    for seed in range(8):
        make_run("full", seed, score="test/mlm_loss_ft", metrics={"test/mlm_loss_ft": 4.0})
        make_run("two_way", seed, score="test/mlm_loss_ft", metrics={"test/mlm_loss_ft": 3.9 - 0.001 * seed})
    table = difference_table(arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind"))
    assert text(table)["two_way"][0].startswith("−0.1")
    assert text(table)["two_way"][4] == "0.004"


def test_kinds_of_use_stand_beside_the_probes_and_mechanism_apart(make_run: Make, tmp_path: Path) -> None:
    values = {
        "test/probe_pydoc_kind": 0.7,
        "test/knn_pydoc_kind": 0.6,
        "test/few_shot_8_pydoc_kind": 0.5,
        "test/few_shot_16_pydoc_kind": 0.55,
        "test/knn_other": 0.4,
        "test/probe_other": 0.45,
        "validation/mlm_loss": 4.0,
        "validation/effective_rank": 12.0,
    }
    for seed in range(8):
        moved = {f"{name}_pre": value + 0.01 + 0.001 * seed for name, value in values.items()}
        layers = {f"validation/cka_layer_{layer}_pre": 1 - 0.01 * layer for layer in range(11)}
        between = {"validation/cka_pre_layer_0_ft": 0.5, "train/displacement_ft": 0.25}
        between |= {"train/accuracy_ft": 0.9, "validation/accuracy_ft": 0.8}
        make_run("two_way", seed, metrics={f"{name}_start": value for name, value in values.items()} | moved | layers | between)
    arms = arms_of(collect([tmp_path / "runs"]).runs, "pydoc_kind")
    flow, mechanism = flow_table(arms), mechanism_table(arms)
    assert flow is not None
    assert mechanism is not None
    assert [row[1].text for row in flow.rows] == [
        "held-out MLM loss",
        "probe pydoc_kind (trained)",
        "kNN pydoc_kind (trained)",
        "8-shot pydoc_kind (trained)",
        "16-shot pydoc_kind (trained)",
        "probe other",
        "kNN other",
    ]
    assert flow.rows[1][4].text == "+1.4"
    assert flow.rows[1][4].bold
    assert flow.rows[1][6].text == "+1.1 to +1.6"
    cells = {row[1].text: [cell.text for cell in row[2:]] for row in mechanism.rows}
    assert cells["effective rank"] == ["12.000", "12.014", MISSING]
    assert cells["CKA with its start, by layer"][1].split() == [f"{1 - 0.01 * layer:.3f}" for layer in range(11)]
    assert cells["CKA of pre and ft, by layer"] == [MISSING, MISSING, "0.500"]
    assert cells["distance from its start"] == [MISSING, MISSING, "0.250"]
    assert cells["score on training rows less validation"] == [MISSING, MISSING, "10.0"]


def test_pretraining_beside_unigram_and_leak(study: Path) -> None:
    rows = text(pretraining_table(collect([study]).runs))
    assert rows["validation MLM loss, nats"] == ["6.012"]
    assert rows["below unigram, nats"] == ["0.419"]
    assert rows["pair accuracy, 95% interval"] == ["53.7 to 58.6, excludes 50"]
    assert rows["leak classifier, these pairs"] == ["51.7"]
    assert rows["probe pydoc_kind, before it"] == ["65.5"]


def test_runs_without_any_metric_show_dashes(make_run: Make, tmp_path: Path) -> None:
    make_run("full", 0)
    make_run("two_way", 0, cost={"seconds": 3.0})
    make_run("pretrain", 0, task=None, corpus="pydoc", score="validation/mlm_loss_pre")
    make_run("novel", 0, score=None)
    collection = collect([tmp_path / "runs"])
    assert text(method_table(arms_of(collection.runs, "pydoc_kind")))["full"][0] == MISSING
    assert all(row[4].text == MISSING for row in run_table(collection).rows)
    for table in all_tables(collection):
        Console(quiet=True).print(to_rich(table))


def test_names_are_escaped_in_every_form() -> None:
    name = r"50% of_#1 & {x} $y^2$ ~ <b>|[red]` \end"
    table = Table("t", name, (Column("a", False), Column("b")), ((Cell(name), Cell("−1.0", -0.01)),), (name,))
    latex = to_latex(table)
    assert r"50\% of\_\#1 \& \{x\} \$y\textasciicircum{}2\$ \textasciitilde{} \textless{}b\textgreater{}" in latex
    assert r"\textbackslash{}end" in latex
    assert "$-$1.0" in latex
    assert r"\toprule" in latex
    markdown = to_markdown(table)
    assert "<b>" not in markdown
    assert r"\|" in markdown
    assert all(line.count("|") - line.count(r"\|") == 3 for line in markdown.splitlines() if line.startswith("|"))
    assert list(csv.reader(io.StringIO(to_csv(table))))[1] == [name, "-0.01"]
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    console.print(to_rich(table))
    assert "[red]" in console.export_text()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.points(0.8123), "81.2"),
        (formats.points(-0.004, True), "−0.4"),
        (formats.points(0.0, True), "0.0"),
        (formats.nats(6.01249), "6.012"),
        (formats.count(1_240_000), "1.24 M"),
        (formats.count(999_600), "1 M"),
        (formats.count(410_000), "410 k"),
        (formats.count(999), "999"),
        (formats.count(None), MISSING),
        (formats.ratio(2.034), "2.03×"),
        (formats.seconds(9.26), "9.3"),
        (formats.p_value(0.0004), "<0.001"),
        (formats.points(float("nan")), "nan"),
        (formats.points(-0.0001, True), "0.0"),
    ],
)
def test_numbers_look_one_way(shown: str, expected: str) -> None:
    assert shown == expected


def test_metric_names_come_apart() -> None:
    assert parse_metric("test/probe_pydoc_match_pre") == Metric("test", "probe_pydoc_match", "pre")
    assert parse_metric("test/accuracy_random_encoder") == Metric("test", "accuracy", "random_encoder")
    assert parse_metric("validation/leak_accuracy") == Metric("validation", "leak_accuracy", "")


@pytest.mark.parametrize(
    ("name", "title", "shown"),
    [
        ("test/knn_sst2_pre", "kNN sst2", "81.2"),
        ("test/few_shot_16_sst2_ft", "16-shot sst2", "81.2"),
        ("test/prompt_sst2_start", "prompt sst2", "81.2"),
        ("test/probe_lossy_nats_pre", "probe lossy_nats", "81.2"),
        ("validation/cka_layer_3_pre", "CKA with its start, layer 3", "0.812"),
        ("validation/cka_pre_layer_12_ft", "CKA of pre and ft, layer 12", "0.812"),
        ("validation/effective_rank_ft", "effective rank", "0.812"),
        ("train/displacement_pre", "distance from its start", "0.812"),
        ("train/displacement_cosine", "cosine of the two distances", "0.812"),
        ("validation/alignment_pre_ft", "alignment of pre and ft", "0.812"),
        ("validation/uniformity_pre", "uniformity", "0.812"),
        ("test/entity_f1_ft", "entity F1", "81.2"),
        ("test/accuracy_at_0.25_ft", "accuracy at α = 0.25", "81.2"),
        ("test/entity_f1_at_0.5_ft", "entity F1 at α = 0.5", "81.2"),
        ("validation/pll_per_token_pre", "pseudo-log-likelihood per token, nats", "0.812"),
        ("validation/mlm_loss_pre", "held-out MLM loss", "0.812"),
    ],
)
def test_every_kind_of_metric_has_words_and_a_unit(name: str, title: str, shown: str) -> None:
    metric = parse_metric(name)
    assert metric.title == title
    assert formats.measured(0.8123, metric) == shown
    assert metric.lower_is_better == (name == "validation/mlm_loss_pre")
